"""A locked table or a database that does not respond: requests that do not need it must continue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from airflow_auth_patches.demo import loop, pages, plot_data
from airflow_auth_patches.demo.load import NO_ANSWER, VERSION, Request, Result, run_flows
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.proxy import Proxy
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Problem

PAIRS = ("3.2.2+3.6.5", "3.3.2+3.10.2")
#: Seconds for which the table is locked or the database does not respond.
HELD = 8.0
REQUESTS = 40
#: Low enough that the pool has a connection for every request, also on stock.
CONCURRENCY = 4
DEADLINE = 25.0
REQUEST = Request("GET", "/api/v2/dags?limit=5")
#: Seconds by which a response to the version can be slower than without a lock: half of the time of the lock.
#: A response that waits for the lock takes the whole time; a busy machine causes a shorter delay.
MORE = HELD / 2
#: pool_timeout is longer than the lock: a request that waits for a slot of `request-admission` gets one.
SETTINGS = Settings(pool_timeout=10, user_cache_ttl=600, revocation_cache_ttl=0, probes=(loop.WATCH,))
USERS = replace(SETTINGS, user_cache_ttl=0)
ABOUT = (
    f"{{what}} for {HELD:.0f} s, during {REQUESTS} GET {REQUEST.path}, {CONCURRENCY} at once, "
    f"each its own token; {VERSION} all along, at most {MORE:.0f} s longer than before; "
    f"pool_timeout {SETTINGS.pool_timeout} s, deadline {DEADLINE:.0f} s"
)


def load(server: Server, tokens: Iterable[str]) -> Result:
    """
    Request Dags with a different token each time, and the version at the same time.

    :param server: a running server.
    :param tokens: one per request; create them before the lock, because a login needs the table too.
    """
    left = iter(tokens)
    return run_flows(
        server.url, [[REQUEST]] * REQUESTS, lambda: next(left), concurrency=CONCURRENCY, deadline=DEADLINE
    )


@contextmanager
def later(action: Callable[[], None], seconds: float = HELD) -> Iterator[None]:
    """
    Call a function some seconds after the start of a ``with`` block, and again at its end.

    :param action: the function; a second call must have no effect.
    :param seconds: the delay.
    """
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join(seconds)
        action()


def ways(sent: Result) -> str:
    """Return a summary of the outcomes of requests."""
    text = ", ".join(f"{count} x {way}" for way, count in sorted(sent.outcomes.items()))
    return f"{text}, {sent.left} not sent" if sent.left else text


def refused(sent: Result) -> bool:
    """Check for failed requests for the version. The last one is cancelled, so it has no response."""
    return any(answer.failed and answer.outcome != NO_ANSWER for answer in sent.versions)


@dataclass(frozen=True)
class Disturbed:
    """
    The requests during a disturbance of the database.

    :param sent: the results of the requests.
    :param held: the seconds from when until when it lasted, since the reset of the probe `loop.WATCH`.
    :param lags: the event-loop lags, see `loop.Report`; empty if the server hangs.
    """

    sent: Result
    held: tuple[float, float]
    lags: plot_data.Points


def disturb(server: Server, disturbance: AbstractContextManager[None], tokens: Iterable[str]) -> Disturbed:
    """
    Send requests during a disturbance of the database.

    :param server: a running server with the probe `loop.WATCH`.
    :param disturbance: disturbs the database for `HELD` seconds, at most until the end of a ``with`` block.
    :param tokens: one per request.
    """
    pages.reset(server.url, loop.WATCH)
    reset = time.monotonic()
    with disturbance:
        begun = time.monotonic()
        sent = load(server, tokens)
        ended = min(begun + HELD, time.monotonic())
    lags = () if sent.unfinished else loop.report(server.url).lags
    return Disturbed(sent, (begun - reset, ended - reset), lags)


def compare(before: Result, disturbed: Mapping[str, Disturbed]) -> Observation:
    """
    Compare the responses during disturbances of the database with those before.

    :param before: the requests before the disturbances.
    :param disturbed: the requests during each disturbance, by its name.
    """
    usual = before.slowest_version
    results = {name: during.sent for name, during in disturbed.items()}
    lags = {name: during.lags for name, during in disturbed.items() if during.lags}
    held = {name: during.held for name, during in disturbed.items()}
    return Observation(
        sees="; ".join(
            f"{name}: version up to {during.slowest_version * 1000:.0f} ms (before {usual * 1000:.0f}), "
            f"Dags {ways(during)}"
            for name, during in results.items()
        ),
        failed=any(
            during.slowest_version > usual + MORE or refused(during) or during.unfinished or during.left
            for during in results.values()
        ),
        measurements=[Measurement(name, during, DEADLINE) for name, during in results.items()],
        details={"plots": [plot_data.lag(lags, held)] if lags else []},
    )


@contextmanager
def locked(server: Server, table: str, seconds: float = HELD) -> Iterator[None]:
    """
    Lock a table of a server for some seconds, at most until the end of a ``with`` block.

    If another transaction uses it, close the connections of the server and try again.

    :param server: the server.
    :param table: the name of the table.
    :param seconds: the time.
    """
    try:
        lock = server.database.lock(server.name, table)
    except Problem:
        server.database.kill_connections(server.name)
        lock = server.database.lock(server.name, table)
    with later(lock.close, seconds):
        yield


def tables(server: Server, *, names: tuple[str, ...]) -> Observation:
    """
    Lock tables, one after the other.

    :param server: a newly booted server with a small pool.
    :param names: the names of the tables.
    """
    before = load(server, server.tokens(REQUESTS))
    during = {}
    for table in names:
        tokens = server.tokens(REQUESTS)
        during[f"{table} locked"] = disturbed = disturb(server, locked(server, table), tokens)
        if disturbed.sent.unfinished:
            break
    return compare(before, during)


@contextmanager
def held(proxy: Proxy) -> Iterator[None]:
    """Block the traffic through a proxy for `HELD` seconds, at most until the end of a ``with`` block."""
    proxy.hold()
    with later(proxy.release):
        yield


def silent(server: Server) -> Observation:
    """Block the traffic between the database and a second server process, with a proxy."""
    with Proxy(server.database.port) as proxy:
        with server.sibling("proxied", database=server.database.through(proxy.port)) as other:
            other.wait()
            before = load(other, other.tokens(REQUESTS))
            during = disturb(other, held(proxy), other.tokens(REQUESTS))
    return compare(before, {"database silent": during})


SCENARIOS = (
    Scenario(
        name="table-locked",
        about=ABOUT.format(what="the tables revoked_token and dag_tag locked, one after the other,"),
        bugs=("revocation-freeze", "lazy-response-fields"),
        pairs=PAIRS,
        run=partial(tables, names=("revoked_token", "dag_tag")),
        settings=SETTINGS,
    ),
    Scenario(
        name="user-table-locked",
        about=ABOUT.format(what="the table ab_user locked"),
        bugs=("user-look-up-freeze",),
        pairs=PAIRS,
        run=partial(tables, names=("ab_user",)),
        settings=USERS,
    ),
    Scenario(
        name="peer-silent",
        about=ABOUT.format(what="the database answers nothing"),
        bugs=("revocation-freeze",),
        pairs=PAIRS,
        run=silent,
        settings=SETTINGS,
    ),
)
