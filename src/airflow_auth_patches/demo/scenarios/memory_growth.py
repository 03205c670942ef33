"""The memory of a server that does the same again and again: it must stay where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import USER
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

WARM_UP = 30
REQUESTS = 300
#: Requests between two looks at the memory.
STEP = 10
MIB = 1024 * 1024
#: The most that it may grow by.
LIMIT = 2 * MIB
#: As soon as it has grown by so much, the rest is not sent: it would take minutes.
PLAIN = 5 * LIMIT
DEADLINE = 60.0


@dataclass(frozen=True)
class Growth:
    """
    What requests of one kind did to the memory of a server.

    :param measurement: the requests.
    :param before: bytes after the warm-up.
    :param after: bytes at the end.
    """

    measurement: Measurement
    before: int
    after: int

    @property
    def bytes(self) -> int:
        """How much it grew by."""
        return self.after - self.before

    def __str__(self) -> str:
        """Say in a few words what an operator sees."""
        sent = len(self.measurement.result.answers)
        told = f"{self.measurement.name}: {self.bytes / MIB:+.1f} MiB in {sent} requests"
        return told if sent == REQUESTS else f"{told}, the rest was not sent"


def grow(server: Server, name: str, requests: Sequence[Request]) -> Growth:
    """
    Send requests one by one, after a warm-up, until all are sent or it is plain that the server grows.

    :param server: where to.
    :param name: what to call them.
    :param requests: what to send, over and over.
    """
    sequence = [requests[number % len(requests)] for number in range(WARM_UP + REQUESTS)]
    send(server.url, sequence[:WARM_UP], deadline=DEADLINE, concurrency=1)
    before = after = server.memory()
    total, rounds = Result([], 0), 0
    for begin in range(WARM_UP, len(sequence), STEP):
        total += send(server.url, sequence[begin : begin + STEP], deadline=DEADLINE, concurrency=1)
        rounds += 1
        after = server.memory()
        if after - before > PLAIN or total.unfinished:
            break
    return Growth(Measurement(name, total, DEADLINE, rounds, REQUESTS // STEP), before, after)


def run(server: Server) -> Observation:
    """
    Ask for tokens, then for FAB's users and roles in turn.

    :param server: a fresh one.
    """
    token = server.token()
    users, roles = (Request("GET", f"/auth/fab/v1/{name}", token=token) for name in ("users", "roles"))
    grown = (
        grow(server, "tokens", [Request("POST", "/auth/token", 201, json=USER)]),
        grow(server, "users and roles", [users, roles]),
    )
    failing = [each.measurement for each in grown if each.measurement.result.failures]
    return Observation(
        sees="; ".join([*map(str, grown), *map(str, failing)]),
        failed=bool(failing) or any(each.bytes > LIMIT for each in grown),
        measurements=tuple(each.measurement for each in grown),
        details={
            "memory": {
                each.measurement.name: {"before": each.before, "after": each.after, "grown": each.bytes}
                for each in grown
            }
        },
    )


SCENARIOS = (
    Scenario(
        name="memory-growth",
        about=(
            f"{REQUESTS} POST /auth/token, then {REQUESTS} GET /auth/fab/v1/users and roles in turn, "
            f"one by one, each after {WARM_UP} to warm up; memory may grow by {LIMIT // MIB} MiB each"
        ),
        bugs=("application-builder-leak",),
        pairs=("3.1.6+3.3.0",),
        run=run,
        minimal=True,
        note=(
            "FAB 3.3.0 answers its list of users with 500 for a reason of its own, shown by fab-users. "
            f"A server that has grown by {PLAIN // MIB} MiB is not sent the rest."
        ),
    ),
)
