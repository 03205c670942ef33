"""The loads of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_auth_patches.demo import browsers
from airflow_auth_patches.demo.load import Request, Result, run_flows
from airflow_auth_patches.demo.preparation import UI_DAGS, USER, Settings
from airflow_auth_patches.demo.server import Server

#: Seconds for the requests of a round; far more than a server needs that does not hang.
DEADLINE = 40.0
#: Concurrent requests, as in issue 66493.
CONCURRENCY = 30
DAGS = Request("GET", "/api/v2/dags?limit=5")
LOG_IN = Request("POST", "/auth/token", 201, json=USER)
#: The pool of issue 66493. A shorter `pool_timeout` than its 30 s lets a server recover from a hang earlier.
SMALL_POOL = Settings(pool_size=3, max_overflow=2, pool_timeout=5)


@dataclass(frozen=True)
class Sample:
    """
    The result of one round on one server.

    :param requests: the number of requests, including those that were not sent before the deadline.
    :param lost: the number of requests without the expected status.
    :param rate: successful requests per second.
    :param p50: the median response time in seconds; a request that the deadline stopped counts until then.
    :param p95: the 95th percentile of the response time, in seconds.
    :param p99: the 99th percentile of the response time, in seconds.
    :param slowest_version: the slowest response to ``GET /api/v2/version`` meanwhile, in seconds.
    """

    requests: int
    lost: int
    rate: float
    p50: float
    p95: float
    p99: float
    slowest_version: float

    @classmethod
    def of(cls, result: Result, rate: float | None = None) -> Sample:
        """
        Return the sample of a load test.

        :param result: the responses.
        :param rate: successful requests per second; by default over the whole duration.
        """
        succeeded = len(result.answers) - len(result.failures)
        rate = succeeded / result.wall if rate is None and result.wall else rate or 0.0
        p50, p95, p99 = (round(result.percentile(percent) or 0.0, 3) for percent in (50, 95, 99))
        requests = len(result.answers) + result.left
        return cls(
            requests, requests - succeeded, round(rate, 2), p50, p95, p99, round(result.slowest_version, 3)
        )

    def data(self) -> dict[str, Any]:
        """Return the sample as JSON-serializable data."""
        return dict(vars(self))


@dataclass(frozen=True)
class Load:
    """
    A load, which the benchmark repeats on each server.

    :param name: its name on the command line.
    :param about: a description.
    :param run: runs one round on a server. Its second argument is the ids of the added users.
    :param settings: the settings of the servers.
    :param users: the number of users to add to the database.
    """

    name: str
    about: str
    run: Callable[[Server, Sequence[int]], Sample]
    settings: Settings = field(default_factory=lambda: SMALL_POOL)
    users: int = 0


def _send(server: Server, requests: Sequence[Request], concurrency: int = CONCURRENCY) -> Sample:
    flows = [[request] for request in requests]
    return Sample.of(run_flows(server.url, flows, concurrency=concurrency, deadline=DEADLINE))


def _one_token(server: Server, _: Sequence[int]) -> Sample:
    token = server.token()
    return _send(server, [DAGS.filled(token, {})] * 60)


def _each_token(server: Server, users: Sequence[int]) -> Sample:
    return _send(server, [DAGS.filled(token, {}) for token in server.tokens(300, users)])


def _log_in(server: Server, _: Sequence[int]) -> Sample:
    return _send(server, [LOG_IN] * 20, 20)


def _browse(server: Server, _: Sequence[int]) -> Sample:
    token = server.token()
    pages = browsers.available(server.url, token, browsers.stages(UI_DAGS))
    load = browsers.browse(server.url, pages, server.tokens(30), seconds=10, patience=15)
    return Sample.of(load.result, load.rate)


LOADS = (
    Load(
        "one-token",
        "60 GET /api/v2/dags?limit=5 with one token, 30 at once: the load of issue 66493",
        _one_token,
    ),
    Load("distinct-tokens", "300 of these requests, each with its own token, 30 at once", _each_token),
    Load(
        "user-cache-misses",
        "300 of these requests, each with its own token, of 20 users in turn, 30 at once; user cache 1 s",
        _each_token,
        Settings(pool_size=3, max_overflow=2, pool_timeout=5, user_cache_ttl=1, revocation_cache_ttl=0),
        users=20,
    ),
    Load("concurrent-logins", "20 POST /auth/token at once", _log_in),
    Load(
        "ui-load",
        "30 browser sessions on the Dags page for 10 s, 6 connections each; lost: not 200 within 15 s; "
        "pool 5+10, pool_timeout 30 s",
        _browse,
        Settings(pool_size=5, max_overflow=10, pool_timeout=30),
    ),
)
