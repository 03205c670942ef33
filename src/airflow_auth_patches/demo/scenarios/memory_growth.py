"""The memory of a server that gets the same requests repeatedly: it must not grow."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_auth_patches.demo import plot_data
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


def grow(server: Server, name: str, requests: Sequence[Request]) -> tuple[Measurement, list[int]]:
    """
    Send requests in sequence after a warm-up, until all are sent or the memory has grown by `STOP_AT`.

    :param server: the server.
    :param name: the name of the measurement.
    :param requests: the requests to repeat.
    :return: the measurement, and the memory in bytes after the warm-up and after each `STEP` requests.
    """
    sequence = [requests[number % len(requests)] for number in range(WARM_UP + REQUESTS)]
    send(server.url, sequence[:WARM_UP], deadline=DEADLINE, concurrency=1)
    memory = [server.memory()]
    total, rounds = Result([], 0), 0
    for begin in range(WARM_UP, len(sequence), STEP):
        total += send(server.url, sequence[begin : begin + STEP], deadline=DEADLINE, concurrency=1)
        rounds += 1
        memory.append(server.memory())
        if memory[-1] - memory[0] > STOP_AT or total.unfinished:
            break
    return Measurement(name, total, DEADLINE, rounds, REQUESTS // STEP), memory


def run(server: Server) -> Observation:
    """Request tokens, then FAB's users and roles in turn."""
    token = server.token()
    users, roles = (Request("GET", f"/auth/fab/v1/{name}", token=token) for name in ("users", "roles"))
    measured = (
        grow(server, "tokens", [Request("POST", "/auth/token", 201, json=USER)]),
        grow(server, "users and roles", [users, roles]),
    )
    grown = [(each, memory[0], memory[-1]) for each, memory in measured]
    failing = [each for each, _, _ in grown if each.result.failures]
    seen = []
    for each, before, after in grown:
        sent = len(each.result.answers)
        rest = "" if sent == REQUESTS else ", the rest was not sent"
        seen.append(f"{each.name}: {(after - before) / MIB:+.1f} MiB in {sent} requests{rest}")
    return Observation(
        sees="; ".join([*seen, *map(str, failing)]),
        failed=bool(failing) or any(after - before > LIMIT for _, before, after in grown),
        measurements=[each for each, _, _ in grown],
        details={
            "memory": {
                each.name: {"before": before, "after": after, "grown": after - before}
                for each, before, after in grown
            },
            "plots": [
                plot_data.curve(
                    "Growth of the memory",
                    "requests",
                    "MiB",
                    {
                        each.name: [
                            (number * STEP, round((bytes_ - memory[0]) / MIB, 2))
                            for number, bytes_ in enumerate(memory)
                        ]
                        for each, memory in measured
                    },
                    limit=LIMIT / MIB,
                )
            ],
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
