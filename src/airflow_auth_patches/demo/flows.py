"""Request flows: requests one after the other, each with what the answers before it told; several at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from airflow_auth_patches.demo.interrupts import check, run
from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result

PULSE_PATH = "/api/v2/version"
#: Seconds between an answer to the pulse and the next question.
PULSE_REST = 0.05


@dataclass(frozen=True)
class Step:
    """
    One request of a flow.

    :param method: its HTTP method.
    :param route: the template of its path in the server's document, for reports.
    :param path: its path and query; ``{names}`` in it are filled with what earlier answers told.
    :param expect: the statuses that are well.
    :param json: the body to send as JSON, if any.
    :param headers: more headers.
    :param keep: what later steps need of the answer: the name to keep it by, and the field of the answer.
    :param cookie: whether the token goes in a cookie, as a browser sends it.
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
    What became of a step.

    :param outcome: the status, ``no answer`` when the deadline came first, or the name of a network error.
    :param seconds: how long it took.
    :param told: the beginning of an answer that is not well.
    """

    step: Step
    outcome: str
    seconds: float
    told: str = ""

    @property
    def well(self) -> bool:
        """Whether it is one of the expected answers."""
        return self.outcome in map(str, self.step.expect)

    @property
    def lost(self) -> bool:
        """Whether the server failed: 5xx or no answer. 404 and 409 can be due to other requests."""
        return not self.outcome.isdigit() or int(self.outcome) >= 500


@dataclass(frozen=True)
class FlowResult:
    """
    What became of several flows.

    :param done: the steps that were sent, in the order in which they ended.
    :param left: how many steps were never sent, as one before them went wrong or the deadline came.
    :param wall: seconds from the first request to the end of the last, or to the deadline.
    :param pulse: what ``PULSE_PATH`` answered meanwhile, one question after the other.
    """

    done: Sequence[Done]
    left: int
    wall: float
    pulse: Result

    @property
    def outcomes(self) -> Counter[str]:
        """How many steps ended in which way."""
        return Counter(each.outcome for each in self.done)

    @property
    def result(self) -> Result:
        """The steps as a result of requests; one that is well counts as answered with what it expects."""
        return Result(
            [
                Answer(
                    Request(each.step.method, each.step.path, int(each.outcome) if each.well else 200),
                    each.outcome,
                    each.seconds,
                )
                for each in self.done
            ],
            self.wall,
        )

    @property
    def slowest_pulse(self) -> float:
        """The seconds that the slowest answer to the pulse took, or that were waited for it in vain."""
        return max((answer.seconds or 0.0 for answer in self.pulse.answers), default=0.0)


@dataclass
class _Run:
    url: str
    token: Callable[[], str | None]
    waiting: deque[Sequence[Step]]
    pulse_headers: Mapping[str, str]
    done: list[Done] = field(default_factory=list)
    pulse: list[Answer] = field(default_factory=list)
    under_way: dict[int, tuple[Step, float]] = field(default_factory=dict)

    async def work(self, number: int, client: httpx.AsyncClient) -> None:
        while self.waiting:
            known: dict[str, Any] = {}
            for step in self.waiting.popleft():
                begun = time.monotonic()
                self.under_way[number] = step, begun
                outcome, answer = await self._ask(client, step, known)
                told = "" if answer is None else answer.text[:300]
                del self.under_way[number]
                done = Done(step, outcome, time.monotonic() - begun, told)
                self.done.append(done)
                if not done.well or answer is None:
                    break  # what follows builds on it
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

    async def beat(self, client: httpx.AsyncClient) -> None:
        request = Request("GET", PULSE_PATH)
        while True:
            begun = time.monotonic()
            outcome = NO_ANSWER
            try:
                answer = await client.get(self.url + PULSE_PATH, headers=self.pulse_headers)
                outcome = str(answer.status_code)
            except httpx.TransportError as error:
                outcome = type(error).__name__
            finally:
                self.pulse.append(Answer(request, outcome, time.monotonic() - begun))
            await asyncio.sleep(PULSE_REST)


async def _run_flows(
    url: str,
    flows: Sequence[Sequence[Step]],
    token: Callable[[], str | None],
    concurrency: int,
    deadline: float,
    pulse_headers: Mapping[str, str],
) -> FlowResult:
    run = _Run(url, token, deque(flows), pulse_headers)
    limits = httpx.Limits(max_connections=concurrency + 1, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False, verify=False) as client:
        begun = time.monotonic()
        workers = [asyncio.create_task(run.work(number, client)) for number in range(concurrency)]
        pulse = asyncio.create_task(run.beat(client))
        _, late = await asyncio.wait(workers, timeout=deadline)
        ended = time.monotonic()
        late_steps = [Done(step, NO_ANSWER, ended - since) for step, since in run.under_way.values()]
        for each in (*late, pulse):
            each.cancel()
        ends = await asyncio.gather(*workers, pulse, return_exceptions=True)
        if problems := [problem for problem in ends if isinstance(problem, Exception)]:
            raise problems[0]
    done = [*run.done, *late_steps]
    planned = sum(len(flow) for flow in flows)
    wall = ended - begun
    return FlowResult(done, planned - len(done), wall, Result(run.pulse, wall))


def run_flows(
    url: str,
    flows: Sequence[Sequence[Step]],
    token: Callable[[], str | None],
    *,
    concurrency: int,
    deadline: float,
    pulse_headers: Mapping[str, str] | None = None,
) -> FlowResult:
    """
    Go on flows, so many at once, while another stream asks for the version all along.

    A flow ends at the first step that is not well.

    :param url: the server.
    :param flows: the steps of each; redirects are not followed.
    :param token: gives the token of the next request, or ``None`` for one without.
    :param concurrency: how many are under way at any time.
    :param deadline: seconds for all of them.
    :param pulse_headers: what the question for the version carries.
    """
    check()
    return run(_run_flows(url, flows, token, concurrency, deadline, pulse_headers or {}))
