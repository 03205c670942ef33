"""Dead connection at session cleanup: the database closes a connection that a session still holds."""

from __future__ import annotations

from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

ROUNDS = 20
DEADLINE = 20.0
#: The warning that the patch logs instead of failing.
WARNING = "Failed to remove session during cleanup"


def run(server: Server) -> Observation:
    """
    Leave a session in a transaction, close its connection, and request the login page.

    :param server: a server without user cache, so that every request with a token queries the database.
    """
    bearer = Request("GET", "/api/v2/dags", token=server.token())
    login = Request("GET", "/auth/login/")
    mark = server.log_size()
    api, page = Result([], 0), Result([], 0)
    for _ in range(ROUNDS):
        api += send(server.url, [bearer], deadline=DEADLINE)
        server.kill_connections()
        page += send(server.url, [login], deadline=DEADLINE)
    measurements = (
        Measurement("login page", page, DEADLINE, ROUNDS, ROUNDS),
        Measurement("API before it", api, DEADLINE, ROUNDS, ROUNDS),
    )
    warnings = server.log_since(mark).count(WARNING)
    text = "; ".join(str(each) for each in measurements if each.result.failures) or str(measurements[0])
    return Observation(
        sees=f"{text}; {warnings} warnings logged" if warnings else text,
        failed=bool(page.failures or api.failures),
        measurements=measurements,
        warnings=warnings,
    )


SCENARIOS = (
    Scenario(
        name="session-cleanup",
        about=f"{ROUNDS} rounds: API request, connections killed on the database, login page",
        bugs=("dead-connection-500",),
        pairs=("3.1.6+3.3.0",),
        run=run,
        settings=Settings(user_cache_ttl=0),
    ),
)
