"""Probe a running server for a patch: disturb its database, send requests, and observe the responses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from airflow_auth_patches.demo import pages
from airflow_auth_patches.demo.faults import ServerDatabase
from airflow_auth_patches.demo.load import VERSION, Request, Result, run_flows, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.scenarios import logout, session_cleanup, token_race, truncated_page, ui_load
from airflow_auth_patches.demo.scenarios.database_waits import refused, ways
from airflow_auth_patches.series.probes import Probe
from airflow_auth_patches.util.errors import Exit, Problem

#: Seconds for which a table is locked at most.
HELD = 5.0
#: The highest time of a response to the version, as a ratio to the time of the lock.
MOST = 0.5
#: Seconds for the requests of a probe; longer than Airflow's pool_timeout.
DEADLINE = 60.0
#: More requests than this wait for one of the server's 40 threads, also without the bug.
THREADS = 39
TOKENS = 5
#: Kills of a page's connection at most, and the steps in which they spread over a quarter of its time.
KILLS, STEPS = 120, 40
CUT = "200 cut short"


@dataclass
class Held:
    """
    A lock of a table.

    :param most: the highest number of connections that waited for it.
    :param seconds: the time for which it was held.
    """

    most: int = 0
    seconds: float = 0.0


@contextmanager
def held(
    database: ServerDatabase, table: str, seconds: float = HELD, enough: int | None = None
) -> Iterator[Held]:
    """
    Lock a table for some seconds, at most until the end of a ``with`` block.

    :param enough: release it once so many connections wait for it.
    """
    seen, ended = Held(), threading.Event()
    lock = ExitStack()
    lock.enter_context(database.locked(table))
    begun = time.monotonic()

    def watch() -> None:
        with lock:
            while not ended.wait(0.05) and seen.seconds < seconds and (enough is None or seen.most < enough):
                seen.most = max(seen.most, len(database.waiting(table)))
                seen.seconds = time.monotonic() - begun

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join(seconds)


def locked_table(server: Reached, database: ServerDatabase, probe: Probe) -> Observation:
    """Send a request that needs a locked table, and request the version meanwhile."""
    request = request_of(server, probe)
    usual = max(each.seconds or 0.0 for each in send(server.url, [VERSIONS] * 3, deadline=HELD).answers)
    flows = [[request]]
    if probe.answered:
        send(server.url, [request], deadline=DEADLINE)
        flows.append([request.filled(server.token(), {})])  # this one waits, also with the patch
    with held(database, probe.table) as lock:
        sent = run_flows(server.url, flows, concurrency=len(flows), deadline=HELD + DEADLINE)
    needed(lock, probe)
    slowest = sent.slowest_version
    seconds = min(each.seconds or HELD for each in sent.answers)
    ratio = slowest / lock.seconds
    notes = [f"version up to {slowest:.2f} s, {ratio:.2f} of the lock (before {usual:.2f} s)"]
    if probe.answered:
        notes.append(f"the known token is answered after {seconds:.2f} s")
    return Observation(
        sees=f"{probe.table} locked for {lock.seconds:.1f} s: {'; '.join(notes)}; {ways(sent)}",
        failed=slowest > usual + MOST * lock.seconds
        or refused(sent)
        or any(each.lost for each in sent.answers)
        or (probe.answered and seconds > MOST * lock.seconds),
        measurements=[Measurement(probe.request, sent, DEADLINE)],
        details={"slowest_version": slowest, "locked": lock.seconds, "ratio": ratio},
    )


def full_pool(server: Reached, database: ServerDatabase, probe: Probe) -> Observation:
    """
    Let as many requests as the pool has connections wait for a locked table, and unlock it.

    Requests that need a second connection cannot all wait for the table. Those without one get a pool
    time-out while it is locked, or after that, when all hold a connection and need another.
    """
    count = database.pool
    if not 1 < count <= THREADS:
        raise Problem(
            f"The pool of the server has {count} connections.",
            f"Start it with [database] sql_alchemy_pool_size and max_overflow of at most {THREADS} together.",
            Exit.FAILED,
        )
    request = request_of(server, probe)
    with held(database, probe.table, database.pool_timeout + HELD, enough=count) as lock:
        sent = send(server.url, [request] * count, deadline=DEADLINE)
    needed(lock, probe)
    return Observation(
        sees=f"{count} at once on a pool of {count}: {ways(sent)}, all in {sent.wall:.1f} s",
        # `request-admission` answers 503 to a request that waits for too long.
        failed=any(each.lost and each.outcome != "503" for each in sent.answers),
        measurements=[Measurement(probe.request, sent, DEADLINE)],
    )


VERSIONS = Request("GET", VERSION)


def request_of(server: Reached, probe: Probe) -> Request:
    """
    Return the request of a probe, with names of Dags and task instances of the server in its path.

    :raises Problem: if the server has none.
    """
    token = server.token()
    method, _, path = probe.request.partition(" ")
    return Request(
        method,
        path.format_map(known(server, token, path)),
        token=token if probe.token else None,
    )


def known(server: Reached, token: str, path: str) -> Mapping[str, str]:
    """Return values for the names in a path."""
    if "{task_id}" in path:
        source, listed = "/api/v2/dags/~/dagRuns/~/taskInstances?limit=100", "task_instances"
    elif "{dag_id}" in path:
        source, listed = "/api/v2/dags?limit=1", "dags"
    else:
        return {}
    found = pages.ask("GET", f"{server.url}{source}", None, {"Authorization": f"Bearer {token}"})[listed]
    for each in found:
        if each.get("try_number", 1) > 0:
            return {name: quote(str(value), safe="") for name, value in each.items()}
    raise Problem(f"GET {source} returned none that ran.", "Run a Dag first.", Exit.FAILED)


def needed(lock: Held, probe: Probe) -> None:
    """
    Check that a request waited for the lock of a probe.

    :raises Problem: if none did, so that the probe shows nothing.
    """
    if not lock.most:
        told = " ".join(probe.variables)
        raise Problem(
            f"No request waited for the locked table {probe.table}.",
            f"Start the server with {told}." if told else "Check that the server uses this database.",
            Exit.FAILED,
        )


def browser_sessions(server: Reached, database: ServerDatabase, probe: Probe) -> Observation:
    """Run the load test with browser sessions on up to 20 Dags of the server."""
    headers = {"Authorization": f"Bearer {server.token()}"}
    found = pages.ask("GET", f"{server.url}/api/v2/dags?limit=20", None, headers)["dags"]
    return ui_load.run_once(server, [quote(each["dag_id"], safe="") for each in found])


def killed_page(server: Reached, database: ServerDatabase, probe: Probe) -> Observation:
    """
    Request a FAB page repeatedly, and kill its connection at growing times after its last table was unlocked.

    The wait for the table shows the connection. A kill before the end of a query gives an error page, and one
    after the teardown changes nothing. One in between must not cut the page short.
    """
    page = Request(
        "GET", truncated_page.PAGE, 200, session=truncated_page.sign_in(server), contains=truncated_page.END
    )
    usual = send(server.url, [page], deadline=DEADLINE)
    if usual.failures:
        told = " ".join(probe.variables)
        raise Problem(f"{page} fails without a kill.", f"Start the server with {told}.", Exit.FAILED)
    total = Result([], 0)
    # Few kills hit the short time in between, so stop at the first page that is cut short.
    while len(total.answers) < KILLS and not total.outcomes[CUT]:
        with ThreadPoolExecutor(1) as pool:
            with database.locked(probe.table):
                sent = pool.submit(send, server.url, [page], deadline=DEADLINE)
                while not (found := database.waiting(probe.table)) and not sent.done():
                    time.sleep(0.01)
            time.sleep(usual.wall * (len(total.answers) % STEPS) / STEPS / 4)
            for connection in found:
                database.kill(connection)
            total += sent.result()
    sees = f"{total.outcomes[CUT]} of {len(total.answers)} pages cut short: {ways(total)}"
    measurement = Measurement(str(page), total, DEADLINE, len(total.answers), KILLS)
    return Observation(sees=sees, failed=bool(total.outcomes[CUT]), measurements=[measurement])


RUN: Mapping[str, Callable[[Reached, ServerDatabase, Probe], Observation]] = {
    "locked-table": locked_table,
    "full-pool": full_pool,
    "browser-sessions": browser_sessions,
    "logout-leeway": lambda server, database, probe: logout.in_leeway(server, TOKENS),
    "killed-connection": lambda server, database, probe: session_cleanup.run(server),
    "killed-page": killed_page,
    "token-race": lambda server, database, probe: token_race.observe(
        server, 0, (token_race.five_tokens(server),)
    ),
}
