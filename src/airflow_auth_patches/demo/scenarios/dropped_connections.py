"""Connections that the database dropped, by itself or in a restart: the next requests must not notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_auth_patches.demo import users
from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

PATH = "/api/v2/dags?limit=1"
REQUESTS = 10
#: Users who ask before the drop, so that a cache knows them, and those who ask after it.
KNOWN = 2
USERS = 5
#: Seconds for each request.
DEADLINE = 20.0


@dataclass(frozen=True)
class Drop:
    """
    What became of requests around a drop.

    :param before: those before it.
    :param after: those after it, one by one.
    :param in_transaction: connections that waited in a transaction when they were dropped.
    """

    before: Measurement
    after: Measurement
    in_transaction: int

    @property
    def failed(self) -> bool:
        """Whether any request failed."""
        return bool(self.before.result.failures or self.after.result.failures)


def run(server: Server) -> Observation:
    """
    Ask, let the database drop every connection, and ask again; with the user cache and without.

    :param server: a fresh one, whose user cache is at its default.
    """
    people = users.add(server, 4 * USERS)
    fresh = [people[first : first + USERS] for first in range(0, len(people), USERS)]
    drops = both_ways(server, "cache on", fresh[:2])
    # Only one is there at a time: the other's connections would be dropped, too.
    server.stop()
    uncached = replace(server.settings, user_cache_ttl=0)
    with server.sibling("no-cache", settings=uncached) as other:
        drops += both_ways(other.wait(), "cache off", fresh[2:])
    measurements = [each.before for each in drops if each.before.result.failures]
    measurements += [each.after for each in drops]
    return Observation(
        sees="; ".join(map(str, measurements)),
        failed=any(each.failed for each in drops),
        measurements=measurements,
        details={"in_transaction": {each.after.name: each.in_transaction for each in drops}},
    )


def both_ways(server: Server, cache: str, people: Sequence[Sequence[int]]) -> list[Drop]:
    """
    Ask around a kill of every connection, and around a restart of the database server.

    :param server: one that answers.
    :param cache: what its user cache is, for people.
    :param people: users who have asked for nothing yet, some for each way.
    """
    killed = around(server, f"killed, {cache}", people[0], restart=False)
    if killed.failed:
        # What it still suffers from is not the restart's.
        server.restart()
    return [killed, around(server, f"restarted, {cache}", people[1], restart=True)]


def around(server: Server, name: str, people: Sequence[int], *, restart: bool) -> Drop:
    """
    Ask for Dags, have every connection dropped, and ask for Dags.

    :param server: one that answers.
    :param name: what to call it.
    :param people: who asks, in turn: the first of them before, all of them after.
    :param restart: whether to restart the database server; else the connections are killed.
    """
    # All tokens first: FAB, which gives them, ends the session that is to be broken.
    early, late = server.tokens(KNOWN, people), server.tokens(REQUESTS, people)
    before = one_by_one(server, f"before: {name}", early)
    in_transaction = server.database.open_transactions(server.name)
    if restart:
        server.database.restart()
    else:
        server.kill_connections()
    return Drop(before, one_by_one(server, name, late), in_transaction)


def one_by_one(server: Server, name: str, tokens: Sequence[str]) -> Measurement:
    """
    Ask for Dags, each time when the last answer is there.

    :param server: one that answers.
    :param name: what to call it.
    :param tokens: one for each request.
    """
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
