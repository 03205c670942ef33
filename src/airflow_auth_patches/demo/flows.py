"""Run request flows: sequences of requests that use values of earlier responses, several concurrently."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result, run

VERSION_PATH = "/api/v2/version"
#: Seconds between a response to `VERSION_PATH` and the next request for it.
VERSION_PAUSE = 0.05


@dataclass(frozen=True)
class Step:
    """
    One request of a flow.

    :param method: its HTTP method.
    :param route: the template of its path in the server's OpenAPI document, for reports.
    :param path: its path and query; ``{names}`` are replaced by values of earlier responses.
    :param expect: the expected statuses.
    :param json: the body to send as JSON, if any.
    :param headers: more headers.
    :param keep: the values that later steps need, as ``{name: field of the response}``.
    :param cookie: whether to send the token in a cookie, like a browser.
    """

    method: str
    route: str
    path: str
    expect: tuple[int, ...] = (200,)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    cookie: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


@dataclass(frozen=True)
class Done:
    """
    The result of a step.

    :param outcome: the status, the name of a network error, or ``no answer`` if the deadline passed.
    :param seconds: the duration.
    :param body: the beginning of the body of the response.
    """

    step: Step
    outcome: str
    seconds: float
    body: str = ""

    @property
    def expected(self) -> bool:
        """Whether the status is one of the expected ones."""
        return self.outcome in map(str, self.step.expect)

    @property
    def lost(self) -> bool:
        """Whether the server failed: 5xx or no response. Other requests can cause 404 and 409."""
        return not self.outcome.isdigit() or int(self.outcome) >= 500


@dataclass(frozen=True)
class FlowResult:
    """
    The result of several flows.

    :param done: the results of the sent steps, in the order in which they ended.
    :param left: the number of steps that were not sent, because an earlier step failed or the deadline
        passed.
    :param wall: seconds from the first request to the end of the last, or to the deadline.
    :param versions: the responses to ``VERSION_PATH``, requested one at a time during the flows.
    """

    done: Sequence[Done]
    left: int
    wall: float
    versions: Result

    @property
    def outcomes(self) -> Counter[str]:
        """The number of steps by outcome."""
        return Counter(each.outcome for each in self.done)

    @property
    def result(self) -> Result:
        """The steps as a `load.Result`. A step with any of its expected statuses did not fail."""
        return Result(
            [
                Answer(
                    Request(each.step.method, each.step.path, int(each.outcome) if each.expected else 200),
                    each.outcome,
                    each.seconds,
                )
                for each in self.done
            ],
            self.wall,
        )

    @property
    def slowest_version(self) -> float:
        """Seconds of the slowest response to ``VERSION_PATH``, including one that did not arrive."""
        return max((answer.seconds or 0.0 for answer in self.versions.answers), default=0.0)


@dataclass
class _Run:
    url: str
    token: Callable[[], str | None]
    waiting: deque[Sequence[Step]]
    version_headers: Mapping[str, str]
    done: list[Done] = field(default_factory=list)
    versions: list[Answer] = field(default_factory=list)
    in_flight: dict[int, tuple[Step, float]] = field(default_factory=dict)

    async def work(self, number: int, client: httpx.AsyncClient) -> None:
        while self.waiting:
            known: dict[str, Any] = {}
            for step in self.waiting.popleft():
                begun = time.monotonic()
                self.in_flight[number] = step, begun
                outcome, answer = await self._ask(client, step, known)
                body = "" if answer is None else answer.text[:300]
                del self.in_flight[number]
                done = Done(step, outcome, time.monotonic() - begun, body)
                self.done.append(done)
                if not done.expected or answer is None:
                    break  # later steps need this one
                known |= {name: answer.json()[key] for name, key in step.keep.items()}

    async def _ask(
        self, client: httpx.AsyncClient, step: Step, known: Mapping[str, Any]
    ) -> tuple[str, httpx.Response | None]:
        headers = {}
        if (token := self.token()) is not None:
            headers = {"Cookie": f"_token={token}"} if step.cookie else {"Authorization": f"Bearer {token}"}
        path = step.path
        for name, value in known.items():
            path = path.replace(f"{{{name}}}", str(value))
        try:
            answer = await client.request(
                step.method, self.url + path, headers={**headers, **step.headers}, json=step.json
            )
        except httpx.TransportError as error:
            return type(error).__name__, None
        return str(answer.status_code), answer

    async def request_version(self, client: httpx.AsyncClient) -> None:
        request = Request("GET", VERSION_PATH)
        while True:
            begun = time.monotonic()
            outcome = NO_ANSWER
            try:
                answer = await client.get(self.url + VERSION_PATH, headers=self.version_headers)
                outcome = str(answer.status_code)
            except httpx.TransportError as error:
                outcome = type(error).__name__
            finally:
                self.versions.append(Answer(request, outcome, time.monotonic() - begun))
            await asyncio.sleep(VERSION_PAUSE)


async def _run_flows(
    url: str,
    flows: Sequence[Sequence[Step]],
    token: Callable[[], str | None],
    concurrency: int,
    deadline: float,
    version_headers: Mapping[str, str],
) -> FlowResult:
    run = _Run(url, token, deque(flows), version_headers)
    limits = httpx.Limits(max_connections=concurrency + 1, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False, verify=False) as client:
        begun = time.monotonic()
        workers = [asyncio.create_task(run.work(number, client)) for number in range(concurrency)]
        versions = asyncio.create_task(run.request_version(client))
        _, late = await asyncio.wait(workers, timeout=deadline)
        ended = time.monotonic()
        late_steps = [Done(step, NO_ANSWER, ended - since) for step, since in run.in_flight.values()]
        for each in (*late, versions):
            each.cancel()
        ends = await asyncio.gather(*workers, versions, return_exceptions=True)
        if problems := [problem for problem in ends if isinstance(problem, Exception)]:
            raise problems[0]
    done = [*run.done, *late_steps]
    planned = sum(len(flow) for flow in flows)
    wall = ended - begun
    return FlowResult(done, planned - len(done), wall, Result(run.versions, wall))


def run_flows(
    url: str,
    flows: Sequence[Sequence[Step]],
    token: Callable[[], str | None],
    *,
    concurrency: int,
    deadline: float,
    version_headers: Mapping[str, str] | None = None,
) -> FlowResult:
    """
    Run flows concurrently, and request ``VERSION_PATH`` repeatedly at the same time.

    A flow stops at the first step with an unexpected status.

    :param url: the server.
    :param flows: the steps of each flow; redirects are not followed.
    :param token: returns the token of the next request, or ``None`` for a request without a token.
    :param concurrency: the number of flows to run at the same time.
    :param deadline: seconds for all flows.
    :param version_headers: headers of the requests for ``VERSION_PATH``.
    """
    return run(_run_flows(url, flows, token, concurrency, deadline, version_headers or {}))
