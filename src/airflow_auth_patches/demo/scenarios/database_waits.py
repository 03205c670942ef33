"""A locked table or a database that does not respond: requests that do not need it must continue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from airflow_auth_patches.demo.databases import Lock
from airflow_auth_patches.demo.load import NO_ANSWER, VERSION, Request, Result, run_flows
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.proxy import Proxy
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

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
SETTINGS = Settings(pool_timeout=5, user_cache_ttl=600, revocation_cache_ttl=0)
USERS = Settings(pool_timeout=5, user_cache_ttl=0, revocation_cache_ttl=0)
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
        action()
        timer.join(seconds)


def compare(name: str, before: Result, during: Result) -> tuple[str, bool, Measurement]:
    """
    Compare the responses during a disturbance of the database with those before.

    :param name: the name of the disturbance.
    :param before: the requests before the disturbance.
    :param during: the requests during the disturbance.
    :return: the observation as text, whether it is a failure, and the measurement.
    """
    usual, slowest = before.slowest_version, during.slowest_version
    unanswered = during.unfinished + during.left
    ways = ", ".join(f"{count} x {way}" for way, count in sorted(during.outcomes.items()))
    if during.left:
        ways += f", {during.left} not sent"
    text = f"{name}: version up to {slowest * 1000:.0f} ms (before {usual * 1000:.0f}), Dags {ways}"
    # The last request for the version is cancelled at the end of the load: ignore that it has no response.
    refused = any(answer.failed and answer.outcome != NO_ANSWER for answer in during.versions)
    failed = slowest > usual + MORE or refused or bool(unanswered)
    return text, failed, Measurement(name, during, DEADLINE)


def locked(server: Server, name: str, table: str) -> Lock:
    """
    Lock a table. If another transaction uses it, close the connections of the server and try again.

    :param server: the server.
    :param name: the name of the database.
    :param table: the name of the table.
    """
    try:
        return server.database.lock(name, table)
    except Problem:
        server.kill_connections()
        return server.database.lock(name, table)


def tables(server: Server, *, names: tuple[str, ...]) -> Observation:
    """
    Lock tables, one after the other.

    :param server: a newly booted server with a small pool.
    :param names: the names of the tables.
    """
    before = load(server, server.tokens(REQUESTS))
    seen = []
    for table in names:
        tokens = server.tokens(REQUESTS)
        with locked(server, server.name, table) as lock, later(lock.release):
            seen.append(compare(f"{table} locked", before, load(server, tokens)))
        if seen[-1][2].result.unfinished:
            break
    return Observation(
        sees="; ".join(text for text, _, _ in seen),
        failed=any(failed for _, failed, _ in seen),
        measurements=tuple(measurement for _, _, measurement in seen),
    )


def silent(server: Server) -> Observation:
    """
    Block the traffic between the database and a second server process, with a proxy.

    :param server: a server whose database listens on a port.
    """
    if not isinstance(server.database, PostgreSQL):
        raise Problem(f"{server.database.product} does not support a proxy.", "Use PostgreSQL.", Exit.FAILED)
    with Proxy(server.database.port) as proxy:
        with server.sibling("proxied", database=server.database.through(proxy.port)) as other:
            other.wait()
            before = load(other, other.tokens(REQUESTS))
            tokens = other.tokens(REQUESTS)
            proxy.hold()
            with later(proxy.release):
                text, failed, measurement = compare("database silent", before, load(other, tokens))
    return Observation(sees=text, failed=failed, measurements=(measurement,))


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
