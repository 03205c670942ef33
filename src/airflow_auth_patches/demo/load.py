"""Send requests concurrently and collect their results."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from airflow_auth_patches.util.signals import Interrupted, check

T = TypeVar("T")
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Request:
    """
    One request to send.

    :param method: its HTTP method.
    :param path: its path on the server.
    :param expect: the expected status.
    :param token: the bearer token to send, if any.
    :param json: the body to send as JSON, if any.
    :param cookie: the token to send in a cookie, like a browser, if any.
    :param session: the session cookie to send, like a browser, if any.
    :param contains: a text that a complete body contains, in addition to the length that HTTP declares.
    """

    method: str
    path: str
    expect: int = 200
    token: str | None = None
    json: Any = None
    cookie: str | None = None
    session: str | None = None
    contains: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers with the tokens."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        cookies = {"_token": self.cookie, "session": self.session}
        sent = "; ".join(f"{name}={value}" for name, value in cookies.items() if value)
        return headers | ({"Cookie": sent} if sent else {})


@dataclass(frozen=True)
class Answer:
    """
    The result of a request.

    :param request: the request.
    :param outcome: the status, followed by ``cut short`` if the body was incomplete; the name of a network
        error; or ``no answer`` if the deadline passed.
    :param seconds: the duration, up to the deadline; ``None`` if the request was not sent.
    """

    request: Request
    outcome: str
    seconds: float | None

    @property
    def failed(self) -> bool:
        """Whether the outcome is not the expected status."""
        return self.outcome != str(self.request.expect)


@dataclass(frozen=True)
class Result:
    """
    The results of the requests of one run.

    :param answers: one result per request, in the order of the requests.
    :param wall: seconds from the start of the first request to the end of the last, or to the deadline.
    """

    answers: Sequence[Answer]
    wall: float

    @property
    def failures(self) -> list[Answer]:
        """The results whose outcome is not the expected status."""
        return [answer for answer in self.answers if answer.failed]

    @property
    def unfinished(self) -> int:
        """The number of requests without a response at the deadline."""
        return self.outcomes[NO_ANSWER]

    @property
    def outcomes(self) -> Counter[str]:
        """The number of requests by outcome: ``{"200": 57, "500": 2, "no answer": 1}``."""
        return Counter(answer.outcome for answer in self.answers)

    def percentile(self, percent: int) -> float | None:
        """
        Return a percentile of the durations.

        :param percent: 1 to 99.
        :return: seconds, or ``None`` without durations. A request that the deadline stopped counts with its
            time until then; a request that was not sent does not count.
        """
        seconds = [answer.seconds for answer in self.answers if answer.seconds is not None]
        if not seconds:
            return None
        if len(seconds) == 1:
            return seconds[0]
        return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]

    def __add__(self, other: Result) -> Result:
        """Combine two consecutive runs."""
        return Result([*self.answers, *other.answers], self.wall + other.wall)


@dataclass
class _Run:
    url: str
    waiting: deque[tuple[int, Request]]
    started: dict[int, float] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)

    async def work(self, client: httpx.AsyncClient, release: asyncio.Event) -> None:
        await release.wait()
        while self.waiting:
            number, request = self.waiting.popleft()
            self.started[number] = begun = time.monotonic()
            status = ""
            try:
                async with client.stream(
                    request.method, self.url + request.path, headers=request.headers, json=request.json
                ) as response:
                    status = str(response.status_code)
                    await response.aread()
                outcome = status if request.contains in response.text else f"{status} cut short"
            except httpx.TransportError as error:
                outcome = f"{status} cut short" if status else type(error).__name__
            self.answers[number] = Answer(request, outcome, time.monotonic() - begun)

    def close(self, ended: float, requests: Sequence[Request]) -> list[Answer]:
        for number, request in enumerate(requests):
            if number not in self.answers:
                begun = self.started.get(number)
                waited = None if begun is None else ended - begun
                self.answers[number] = Answer(request, NO_ANSWER, waited)
        return [self.answers[number] for number in range(len(requests))]


async def _send(url: str, requests: Sequence[Request], concurrency: int, deadline: float) -> Result:
    sent = _Run(url, deque(enumerate(requests)))
    # One connection per request: the server could close a kept-alive connection just before it is reused.
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=0)
    # No client time-out: the deadline applies to the whole run.
    # `verify=False` avoids loading certificates; the requests are not encrypted.
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False, verify=False) as client:
        release = asyncio.Event()
        workers = [asyncio.create_task(sent.work(client, release)) for _ in range(concurrency)]
        await asyncio.sleep(0)  # let every worker start
        begun = time.monotonic()
        release.set()
        _, late = await asyncio.wait(workers, timeout=deadline)
        ended = time.monotonic()
        answers = sent.close(ended, requests)
        for worker in late:
            worker.cancel()
        problems = [
            problem
            for problem in await asyncio.gather(*workers, return_exceptions=True)
            if isinstance(problem, Exception)
        ]
        if problems:
            raise problems[0]
    return Result(answers, ended - begun)


def send(url: str, requests: Sequence[Request], *, deadline: float, concurrency: int | None = None) -> Result:
    """
    Send requests concurrently and wait for their responses.

    :param url: the server.
    :param requests: the requests; redirects are not followed.
    :param deadline: seconds for all requests; a request without a response by then failed.
    :param concurrency: the number of requests in flight at the same time; by default all of them.
    """
    workers = min(concurrency or len(requests), len(requests))
    return run(_send(url, requests, workers, deadline))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop. asyncio does not log an interruption for each task."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(_ignore_interruptions)
        result = runner.run(work)
    check()
    return result


def _ignore_interruptions(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Interrupted):
        loop.default_exception_handler(context)
