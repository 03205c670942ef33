"""A locked table, or a database that falls silent: what needs it waits, and all else must go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from airflow_auth_patches.demo.databases import Lock
from airflow_auth_patches.demo.flows import PULSE_PATH, FlowResult, Step, run_flows
from airflow_auth_patches.demo.load import NO_ANSWER
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.proxy import Proxy
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

PAIRS = ("3.2.2+3.6.5", "3.3.2+3.10.2")
#: Seconds that the database makes others wait.
HELD = 8.0
REQUESTS = 40
#: Few enough that the pool has connections for all: nothing but the database is waited for, on stock either.
CONCURRENCY = 4
DEADLINE = 25.0
STEP = Step("GET", "/api/v2/dags", "/api/v2/dags?limit=5")
#: Seconds by which the version may take longer than without a lock: half of the time that the lock is held.
#: An answer that waits for the lock takes all of it; a busy machine delays one by less.
MORE = HELD / 2
SETTINGS = Settings(pool_timeout=5, user_cache_ttl=600, revocation_cache_ttl=0)
USERS = Settings(pool_timeout=5, user_cache_ttl=0, revocation_cache_ttl=0)
ABOUT = (
    f"{{what}} for {HELD:.0f} s, during {REQUESTS} GET {STEP.path}, {CONCURRENCY} at once, "
    f"each its own token; {PULSE_PATH} all along, at most {MORE:.0f} s longer than before; "
    f"pool_timeout {SETTINGS.pool_timeout} s, deadline {DEADLINE:.0f} s"
)


def load(server: Server, tokens: Iterable[str]) -> FlowResult:
    """
    Ask for Dags, each time with another token, and for the version all along.

    :param server: one that answers.
    :param tokens: as many as there are requests, had before anything is locked, as logging in needs it too.
    """
    left = iter(tokens)
    return run_flows(
        server.url, [[STEP]] * REQUESTS, lambda: next(left), concurrency=CONCURRENCY, deadline=DEADLINE
    )


@contextmanager
def later(action: Callable[[], None], seconds: float = HELD) -> Iterator[None]:
    """
    Do something some seconds after the beginning of a block; at its end, if that comes first.

    :param action: what to do; twice must be as good as once.
    :param seconds: how many.
    """
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        action()
        timer.join(seconds)


def compared(name: str, before: FlowResult, during: FlowResult) -> tuple[str, bool, Measurement]:
    """
    Say how the version was answered, and what became of the other requests.

    :param name: what the database did.
    :param before: the same requests while it did nothing.
    :param during: the requests meanwhile.
    :return: what was seen, whether it is a failure, the requests.
    """
    usual, slowest = before.slowest_pulse, during.slowest_pulse
    unanswered = during.result.unfinished + during.left
    ways = ", ".join(f"{count} x {way}" for way, count in sorted(during.outcomes.items()))
    if during.left:
        ways += f", {during.left} not sent"
    told = f"{name}: version up to {slowest * 1000:.0f} ms (before {usual * 1000:.0f}), Dags {ways}"
    # The last question to the version is broken off with the load: it counts only as slow, where it is.
    refused = any(answer.failed and answer.outcome != NO_ANSWER for answer in during.pulse.answers)
    failed = slowest > usual + MORE or refused or bool(unanswered)
    return told, failed, Measurement(name, during.result, DEADLINE)


def locked(server: Server, name: str, table: str) -> Lock:
    """
    Lock a table, once more after those in the way are gone.

    :param server: its database is meant.
    :param name: the database.
    :param table: the table.
    """
    try:
        return server.database.lock(name, table)
    except Problem:
        server.kill_connections()
        return server.database.lock(name, table)


def tables(server: Server, *, names: tuple[str, ...]) -> Observation:
    """
    Lock one table after the other.

    :param server: a fresh one with a small pool.
    :param names: the tables.
    """
    before = load(server, server.tokens(REQUESTS))
    seen = []
    for table in names:
        tokens = server.tokens(REQUESTS)
        with locked(server, server.name, table) as lock, later(lock.release):
            seen.append(compared(f"{table} locked", before, load(server, tokens)))
        if seen[-1][2].result.unfinished:
            break
    return Observation(
        sees="; ".join(told for told, _, _ in seen),
        failed=any(failed for _, failed, _ in seen),
        measurements=tuple(measurement for _, _, measurement in seen),
    )


def silent(server: Server) -> Observation:
    """
    Let the database fall silent, for another server process that finds it through a proxy.

    :param server: one whose database is on a port.
    """
    if not isinstance(server.database, PostgreSQL):
        raise Problem(f"{server.database.product} is not reached through a proxy.", "", Exit.FAILED)
    with Proxy(server.database.port) as proxy:
        with server.sibling("proxied", database=server.database.through(proxy.port)) as other:
            other.wait()
            before = load(other, other.tokens(REQUESTS))
            tokens = other.tokens(REQUESTS)
            proxy.hold()
            with later(proxy.release):
                told, failed, measurement = compared("database silent", before, load(other, tokens))
    return Observation(sees=told, failed=failed, measurements=(measurement,))


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
