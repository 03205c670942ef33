"""The memory of a server that gets the same requests repeatedly: it must not grow."""

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
#: Number of requests between two measurements of the memory.
STEP = 10
MIB = 1024 * 1024
#: The maximum growth in bytes.
LIMIT = 2 * MIB
#: Stop after this growth, because the remaining requests take minutes.
STOP_AT = 5 * LIMIT
DEADLINE = 60.0


@dataclass(frozen=True)
class Growth:
    """
    The memory growth of a server after requests of one kind.

    :param measurement: the requests.
    :param before: memory after the warm-up, in bytes.
    :param after: memory at the end, in bytes.
    """

    measurement: Measurement
    before: int
    after: int

    @property
    def bytes(self) -> int:
        """The growth in bytes."""
        return self.after - self.before

    def __str__(self) -> str:
        """Return a short summary of what an operator sees."""
        sent = len(self.measurement.result.answers)
        text = f"{self.measurement.name}: {self.bytes / MIB:+.1f} MiB in {sent} requests"
        return text if sent == REQUESTS else f"{text}, the rest was not sent"


def grow(server: Server, name: str, requests: Sequence[Request]) -> Growth:
    """
    Send requests in sequence after a warm-up, until all are sent or the memory has grown by `STOP_AT`.

    :param server: the server.
    :param name: the name of the measurement.
    :param requests: the requests to repeat.
    """
    sequence = [requests[number % len(requests)] for number in range(WARM_UP + REQUESTS)]
    send(server.url, sequence[:WARM_UP], deadline=DEADLINE, concurrency=1)
    before = after = server.memory()
    total, rounds = Result([], 0), 0
    for begin in range(WARM_UP, len(sequence), STEP):
        total += send(server.url, sequence[begin : begin + STEP], deadline=DEADLINE, concurrency=1)
        rounds += 1
        after = server.memory()
        if after - before > STOP_AT or total.unfinished:
            break
    return Growth(Measurement(name, total, DEADLINE, rounds, REQUESTS // STEP), before, after)


def run(server: Server) -> Observation:
    """
    Request tokens, then FAB's users and roles in turn.

    :param server: a newly booted server.
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
            f"A server that has grown by {STOP_AT // MIB} MiB is not sent the rest."
        ),
    ),
)
