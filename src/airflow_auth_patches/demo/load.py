"""Requests sent together, and what became of them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from airflow_auth_patches.demo.interrupts import check, run

NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Request:
    """
    One request to send.

    :param method: its HTTP method.
    :param path: its path on the server.
    :param expect: the status it should be answered with.
    :param token: the bearer token to send, if any.
    :param json: the body to send as JSON, if any.
    :param cookie: the token to send in a cookie, as a browser does, if any.
    :param session: the cookie of a session to send, as a browser does, if any.
    :param holds: what is in the body when it is whole, beside what HTTP itself says of its length.
    """

    method: str
    path: str
    expect: int = 200
    token: str | None = None
    json: Any = None
    cookie: str | None = None
    session: str | None = None
    holds: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that carry its tokens."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        cookies = {"_token": self.cookie, "session": self.session}
        sent = "; ".join(f"{name}={value}" for name, value in cookies.items() if value)
        return headers | ({"Cookie": sent} if sent else {})


@dataclass(frozen=True)
class Answer:
    """
    What became of a request.

    :param request: the request.
    :param outcome: the status, with ``cut short`` when only a part of the body came; ``no answer`` when the
        deadline came first, or the name of a network error.
    :param seconds: how long it took, up to the deadline; ``None`` where its turn never came.
    """

    request: Request
    outcome: str
    seconds: float | None

    @property
    def failed(self) -> bool:
        """Whether it is anything but the expected answer."""
        return self.outcome != str(self.request.expect)


@dataclass(frozen=True)
class Result:
    """
    What became of the requests of one run.

    :param answers: one for each request, in the order they were given.
    :param wall: seconds from the release of the first to the end of the last, or to the deadline.
    """

    answers: Sequence[Answer]
    wall: float

    @property
    def failures(self) -> list[Answer]:
        """Those that are anything but the expected answer."""
        return [answer for answer in self.answers if answer.failed]

    @property
    def unfinished(self) -> int:
        """How many had no answer at the deadline."""
        return self.outcomes[NO_ANSWER]

    @property
    def outcomes(self) -> Counter[str]:
        """How many ended in which way: ``{"200": 57, "500": 2, "no answer": 1}``."""
        return Counter(answer.outcome for answer in self.answers)

    def percentile(self, percent: int) -> float | None:
        """
        Tell the time within which that part of the requests ended.

        :param percent: 1 to 99.
        :return: seconds; requests cut off by the deadline count with their time until then, those whose turn
            never came do not count; ``None`` when there is nothing to count.
        """
        seconds = [answer.seconds for answer in self.answers if answer.seconds is not None]
        if not seconds:
            return None
        if len(seconds) == 1:
            return seconds[0]
        return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]

    def __add__(self, other: Result) -> Result:
        """Put two runs together, one after the other."""
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
                outcome = status if request.holds in response.text else f"{status} cut short"
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
    # A connection for each request: a kept one may be closed by the server just when it is used again.
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=0)
    # The deadline is the whole run's; a server that hangs must not look like a client's time-out.
    # Nothing is encrypted, so there is nothing to verify: that spares loading the certificates.
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False, verify=False) as client:
        release = asyncio.Event()
        workers = [asyncio.create_task(sent.work(client, release)) for _ in range(concurrency)]
        await asyncio.sleep(0)  # let every worker reach the line
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
    Send requests, so many at once, released together, and wait for their answers.

    :param url: the server.
    :param requests: what to send; redirects are not followed.
    :param deadline: seconds for all of them; a request without an answer by then counts as failed.
    :param concurrency: how many are under way at any time; all of them when not given.
    """
    check()
    workers = min(concurrency or len(requests), len(requests))
    return run(_send(url, requests, workers, deadline))
