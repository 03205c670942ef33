"""Connections that the database dropped, by a kill or a restart: the next requests must succeed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from airflow_auth_patches.demo import users
from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

PATH = "/api/v2/dags?limit=1"
REQUESTS = 10
#: Number of users with requests before the drop, so that the cache has them, and after it.
KNOWN = 2
USERS = 5
#: Seconds for each request.
DEADLINE = 20.0


#: The requests before a drop and after it, and the number of connections idle in a transaction at the drop.
Drop = tuple[Measurement, Measurement, int]


def run(server: Server) -> Observation:
    """Send requests before and after the database drops every connection, with and without the user cache."""
    people = users.add(server, 4 * USERS)
    fresh = [people[first : first + USERS] for first in range(0, len(people), USERS)]
    drops = both_ways(server, "cache on", fresh[:2])
    # Run only one server at a time, because the kill also drops the connections of the other one.
    server.stop()
    uncached = replace(server.settings, user_cache_ttl=0)
    with server.sibling("no-cache", settings=uncached) as other:
        drops += both_ways(other.wait(), "cache off", fresh[2:])
    measurements = [before for before, _, _ in drops if before.result.failures]
    measurements += [after for _, after, _ in drops]
    in_transaction = {after.name: count for _, after, count in drops}
    return Observation.of(measurements, details={"in_transaction": in_transaction})


def both_ways(server: Server, cache: str, people: Sequence[Sequence[int]]) -> list[Drop]:
    """
    Send requests before and after a kill of every connection and a restart of the database server.

    :param cache: the display name of the state of the user cache of the server.
    :param people: users without earlier requests, a list for each kind of drop.
    """
    killed = around(server, f"killed, {cache}", people[0], restart=False)
    if any(each.result.failures for each in killed[:2]):
        # The failure after the kill must not affect the result of the restart.
        server.restart()
    return [killed, around(server, f"restarted, {cache}", people[1], restart=True)]


def around(server: Server, name: str, people: Sequence[int], *, restart: bool) -> Drop:
    """
    Request Dags, drop every connection, and request Dags again.

    :param server: a running server.
    :param name: the name of the measurement.
    :param people: the users of the requests, in turn: the first ones before the drop, all of them after it.
    :param restart: whether to restart the database server instead of killing the connections.
    """
    # Create all tokens first: creating a token in FAB closes the session that the drop must affect.
    early, late = server.tokens(KNOWN, people), server.tokens(REQUESTS, people)
    before = one_by_one(server, f"before: {name}", early)
    in_transaction = server.database.open_transactions(server.name)
    if restart:
        server.database.restart()
    else:
        server.database.kill_connections(server.name)
    return before, one_by_one(server, name, late), in_transaction


def one_by_one(server: Server, name: str, tokens: Sequence[str]) -> Measurement:
    """Request Dags in sequence, once with each token."""
    requests = [Request("GET", PATH, token=token) for token in tokens]
    deadline = DEADLINE * len(requests)
    return Measurement(name, send(server.url, requests, deadline=deadline, concurrency=1), deadline)


SCENARIOS = (
    Scenario(
        name="dropped-connections",
        about=(
            f"{KNOWN} GET {PATH}; the database drops every connection, by a kill and in a restart; "
            f"{REQUESTS} more by {USERS} users, one by one; user cache at its default and off"
        ),
        bugs=("wedged-session",),
        pairs=("3.1.6+3.3.0", "3.2.2+3.6.5"),
        run=run,
        settings=Settings(),
        databases=("PostgreSQL", "MariaDB"),
        minimal=True,
        note=(
            "The restart is one for the servers that wait for their turn, too. A server that failed after "
            "the kill is booted anew before it."
        ),
    ),
)
