"""Dead connection at session cleanup: the database closes a connection that a session still holds."""

from __future__ import annotations

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.scenario import Scenario, Tally

ROUNDS = 20
DEADLINE = 20.0
#: The warning that the patch logs instead of failing.
WARNING = "Failed to remove session during cleanup"


def run(server: Reached) -> Observation:
    """
    Leave a session in a transaction, close its connection, and request the login page.

    :param server: a server without user cache, so that every request with a token queries the database.
    """
    bearer = Request("GET", "/api/v2/dags", token=server.token())
    login = Request("GET", "/auth/login/")
    mark = server.log_size()
    sent = Tally(server.url, DEADLINE, ROUNDS, "login page", "API before it")
    for _ in range(ROUNDS):
        sent.send("API before it", bearer)
        server.database.kill_connections(server.name)
        sent.send("login page", login)
    warnings = server.log_since(mark).count(WARNING)
    failing = [each for each in sent.measurements if each.result.failures]
    text = "; ".join(map(str, failing)) or str(sent.measurements[0])
    return Observation(
        sees=f"{text}; {warnings} warnings logged" if warnings else text,
        failed=bool(failing),
        measurements=sent.measurements,
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
