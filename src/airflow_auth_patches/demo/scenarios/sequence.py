"""Token, FAB's pages and core, one request at a time: the cure of the race must not break them."""

from __future__ import annotations

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.outcomes import Kind, Observation
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.scenario import Scenario, Tally
from airflow_auth_patches.demo.scenarios.token_race import NO_USERS, PAIRS, fab_requests, observe

ROUNDS = 3
DEADLINE = 20.0


def run(server: Reached) -> Observation:
    """Request tokens, FAB's users and roles, and core's routes, in sequence."""
    mark = server.log_size()
    sent = Tally(server.url, DEADLINE, ROUNDS, "one by one")
    for _ in range(ROUNDS):
        token = server.token()
        requests = [
            Request("POST", "/auth/token", 201, json=server.user),
            Request("POST", "/auth/token/cli", 201, json=server.user),
            *fab_requests(server, token),
            Request("GET", "/api/v2/dags", token=token),
            Request("GET", "/api/v2/pools", token=token),
            Request("GET", "/auth/login/"),
        ]
        for request in requests:
            sent.send("one by one", request)
    return observe(server, mark, sent.measurements)


SCENARIOS = (
    Scenario(
        name="sequence",
        about=f"{ROUNDS} rounds, one by one: token, FAB users and roles, then core; must go on working",
        bugs=("auth-manager-race", "appbuilder-race"),
        pairs=PAIRS,
        run=run,
        kind=Kind.REGRESSION,
        note=NO_USERS,
    ),
)
