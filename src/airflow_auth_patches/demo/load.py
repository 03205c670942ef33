"""Send requests concurrently, singly or in flows, and collect their results."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from airflow_auth_patches.util import signals

NO_ANSWER = "no answer"
VERSION = "/api/v2/version"
#: Seconds between a response to `VERSION` and the next request for it.
VERSION_PAUSE = 0.05


@dataclass(frozen=True)
class Request:
    """
    One request to send.

    :param method: its HTTP method.
    :param path: its path on the server; in a flow, ``{names}`` are replaced by values of earlier responses.
    :param expect: the expected status, or several.
    :param token: the bearer token to send, if any.
    :param json: the body to send as JSON, if any.
    :param cookie: the token to send in a cookie, like a browser, if any.
    :param session: the session cookie to send, like a browser, if any.
    :param contains: a text that a complete body contains, in addition to the length that HTTP declares.
    :param more_headers: more headers.
    :param route: the template of its path in the server's OpenAPI document, for reports.
    :param keep: the values that later requests of the flow need, as ``{name: field of the response}``.
    :param by_cookie: whether a flow sends its token in the cookie.
    """

    method: str
    path: str
    expect: int | tuple[int, ...] = 200
    token: str | None = None
    json: Any = None
    cookie: str | None = None
    session: str | None = None
    contains: str = ""
    more_headers: Mapping[str, str] = field(default_factory=dict)
    route: str = ""
    keep: Mapping[str, str] = field(default_factory=dict)
    by_cookie: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.route or self.path}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers, with the tokens."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        cookies = {"_token": self.cookie, "session": self.session}
        sent = "; ".join(f"{name}={value}" for name, value in cookies.items() if value)
        return headers | ({"Cookie": sent} if sent else {}) | dict(self.more_headers)

    def expects(self, outcome: str) -> bool:
        """Check whether an outcome is an expected status."""
        return outcome in map(str, self.expect if isinstance(self.expect, tuple) else (self.expect,))

    def filled(self, token: str | None, known: Mapping[str, Any]) -> Request:
        """
        Return the request with a token and with values in its path.

        :param token: the token; by default the request keeps its own.
        :param known: the values by name.
        """
        path = self.path
        for name, value in known.items():
            path = path.replace(f"{{{name}}}", str(value))
        if self.by_cookie:
            return replace(self, path=path, cookie=token or self.cookie)
        return replace(self, path=path, token=token or self.token)


@dataclass(frozen=True)
class Answer:
    """
    The result of a request.

    :param request: the request.
    :param outcome: the status, followed by ``cut short`` if the body was incomplete; the name of a network
        error; or ``no answer`` if the deadline passed.
    :param seconds: the duration, up to the deadline; ``None`` if the request was not sent.
    :param body: the beginning of the body of an unexpected response.
    """

    request: Request
    outcome: str
    seconds: float | None
    body: str = ""

    @property
    def failed(self) -> bool:
        """Whether the outcome is not an expected status."""
        return not self.request.expects(self.outcome)

    @property
    def lost(self) -> bool:
        """Whether the server failed: 5xx or no response. Other requests can cause 404 and 409."""
        return not self.outcome.isdigit() or int(self.outcome) >= 500


@dataclass(frozen=True)
class Result:
    """
    The results of the requests of one run.

    :param answers: the results, in the order in which the requests ended.
    :param wall: seconds from the start of the first request to the end of the last, or to the deadline.
    :param left: the number of requests of flows that were not sent, because an earlier request failed or the
        deadline passed.
    :param versions: the responses to `VERSION`, requested one at a time during the run.
    """

    answers: Sequence[Answer]
    wall: float
    left: int = 0
    versions: Sequence[Answer] = ()

    @property
    def failures(self) -> list[Answer]:
        """The results whose outcome is not an expected status."""
        return [answer for answer in self.answers if answer.failed]

    @property
    def unfinished(self) -> int:
        """The number of requests without a response at the deadline."""
        return self.outcomes[NO_ANSWER]

    @property
    def outcomes(self) -> Counter[str]:
        """The number of requests by outcome: ``{"200": 57, "500": 2, "no answer": 1}``."""
        return Counter(answer.outcome for answer in self.answers)

    @property
    def slowest_version(self) -> float:
        """Seconds of the slowest response to `VERSION`, including one that did not arrive."""
        return max((answer.seconds or 0.0 for answer in self.versions), default=0.0)

    def percentile(self, percent: int) -> float | None:
        """
        Return a percentile of the durations.

        :param percent: 1 to 99.
        :return: seconds, or ``None`` without durations. A request that the deadline stopped counts with its
            time until then; a request that was not sent does not count.
        """
        seconds = [answer.seconds for answer in self.answers if answer.seconds is not None]
        if len(seconds) < 2:
            return seconds[0] if seconds else None
        return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]

    def __add__(self, other: Result) -> Result:
        """Combine two consecutive runs."""
        return Result([*self.answers, *other.answers], self.wall + other.wall)


def client(url: str, connections: int, *, keep_alive: bool = False, token: str = "") -> httpx.AsyncClient:
    """
    Return a client for a load test, which has no time-out and follows no redirects.

    :param url: the server.
    :param connections: the maximum number of connections.
    :param keep_alive: whether to use a connection again. The server can close it just before.
    :param token: the token to send in a cookie, like a browser, if any.
    """
    return httpx.AsyncClient(
        base_url=url,
        cookies={"_token": token} if token else None,
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections if keep_alive else 0
        ),
        timeout=None,
        trust_env=False,
        verify=False,  # avoids loading certificates; the requests are not encrypted
    )


async def ask(
    sender: httpx.AsyncClient, request: Request, answers: list[Answer], patience: float | None = None
) -> httpx.Response | None:
    """
    Send a request, and add its result to a list, also when the task is cancelled.

    :param sender: the client.
    :param request: the request.
    :param answers: the list.
    :param patience: seconds after which the request is given up, if any.
    :return: the response if its status is expected.
    """
    outcome, body = NO_ANSWER, ""
    response: httpx.Response | None = None
    begun = time.monotonic()
    try:
        async with asyncio.timeout(patience):
            async with sender.stream(
                request.method, request.path, headers=request.headers, json=request.json
            ) as response:
                await response.aread()
        outcome = str(response.status_code)
        if request.contains and request.contains not in response.text:
            outcome += " cut short"
        if not request.expects(outcome):
            body = response.text[:300]
    except TimeoutError:
        pass
    except httpx.TransportError as error:
        outcome = type(error).__name__ if response is None else f"{response.status_code} cut short"
    finally:
        answers.append(Answer(request, outcome, time.monotonic() - begun, body))
    return response if request.expects(outcome) else None


async def repeat(
    sender: httpx.AsyncClient,
    request: Request,
    pause: float,
    answers: list[Answer],
    patience: float | None = None,
    more: Callable[[], bool] = lambda: True,
) -> None:
    """
    Send a request again and again, one at a time, see :func:`ask`.

    :param pause: seconds between a response and the next request.
    :param more: says whether to send another one.
    """
    while more():
        await ask(sender, request, answers, patience)
        await asyncio.sleep(pause if more() else 0)


def run_flows(
    url: str,
    flows: Sequence[Sequence[Request]],
    token: Callable[[], str | None] = lambda: None,
    *,
    concurrency: int,
    deadline: float,
    versions: bool = True,
) -> Result:
    """
    Run flows concurrently: requests in sequence, which use values of earlier responses.

    A flow stops at the first request with an unexpected status.

    :param url: the server.
    :param flows: the requests of each flow; redirects are not followed.
    :param token: returns the token of the next request, or ``None`` if it keeps its own.
    :param concurrency: the number of flows to run at the same time.
    :param deadline: seconds for all flows.
    :param versions: whether to request `VERSION` repeatedly at the same time.
    """
    waiting = deque(flows)
    answers: list[Answer] = []
    version_answers: list[Answer] = []
    release = asyncio.Event()

    async def work(sender: httpx.AsyncClient) -> None:
        await release.wait()
        while waiting:
            known: dict[str, Any] = {}
            for request in waiting.popleft():
                response = await ask(sender, request.filled(token(), known), answers)
                if response is None:
                    break  # later requests need this one
                known |= {name: response.json()[key] for name, key in request.keep.items()}

    async def everything() -> float:
        async with client(url, concurrency + versions) as sender:
            workers = [asyncio.create_task(work(sender)) for _ in range(concurrency)]
            await asyncio.sleep(0)  # let every worker start
            begun = time.monotonic()
            release.set()
            tasks = list(workers)
            if versions:
                version = repeat(sender, Request("GET", VERSION), VERSION_PAUSE, version_answers)
                tasks.append(asyncio.create_task(version))
            await asyncio.wait(workers, timeout=deadline)
            wall = time.monotonic() - begun
            for task in tasks:
                task.cancel()
            for end in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(end, Exception):
                    raise end
        return wall

    wall = signals.run(everything())
    return Result(answers, wall, sum(map(len, flows)) - len(answers), version_answers)


def send(url: str, requests: Sequence[Request], *, deadline: float, concurrency: int | None = None) -> Result:
    """
    Send requests concurrently and wait for their responses.

    :param url: the server.
    :param requests: the requests; redirects are not followed.
    :param deadline: seconds for all requests; a request without a response by then failed.
    :param concurrency: the number of requests in flight at the same time; by default all of them.
    """
    workers = min(concurrency or len(requests), len(requests))
    flows = [[request] for request in requests]
    sent = run_flows(url, flows, concurrency=workers, deadline=deadline, versions=False)
    unsent = [Answer(request, NO_ANSWER, None) for request in requests[len(sent.answers) :]]
    return Result([*sent.answers, *unsent], sent.wall)
