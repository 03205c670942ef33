"""A connection that the database dropped while it was idle: the next request must not notice."""

from __future__ import annotations

from airflow_auth_patches.live.load import Request, Result, send
from airflow_auth_patches.live.outcomes import Measurement, Observation
from airflow_auth_patches.live.preparation import Settings
from airflow_auth_patches.live.scenario import Scenario
from airflow_auth_patches.live.server import Server

ROUNDS = 10
DEADLINE = 20.0
PATH = "/api/v2/dags?limit=1"


def run(server: Server) -> Observation:
    """
    Ask, let the database drop every connection, and ask again, with core's routes only.

    :param server: a fresh one, whose user cache keeps nothing.
    """
    tokens = server.tokens(2 * ROUNDS)
    before, after = Result([], 0), Result([], 0)
    for _ in range(ROUNDS):
        before += send(server.url, [Request("GET", PATH, token=tokens.pop())], deadline=DEADLINE)
        server.kill_connections()
        after += send(server.url, [Request("GET", PATH, token=tokens.pop())], deadline=DEADLINE)
    measurements = (
        Measurement("first request after it", after, DEADLINE, ROUNDS, ROUNDS),
        Measurement("request before it", before, DEADLINE, ROUNDS, ROUNDS),
    )
    told = [str(each) for each in measurements if each.result.failures] or [str(measurements[0])]
    return Observation(
        sees="; ".join(told),
        failed=bool(after.failures or before.failures),
        measurements=measurements,
    )


SCENARIOS = (
    Scenario(
        name="idle-connection",
        about=f"{ROUNDS} rounds: GET {PATH}, connections dropped by the database, GET {PATH}",
        bugs=("wedged-session",),
        pairs=("3.2.0+3.6.0", "3.2.2+3.6.5"),
        run=run,
        settings=Settings(user_cache_ttl=0, revocation_cache_ttl=0),
    ),
)
