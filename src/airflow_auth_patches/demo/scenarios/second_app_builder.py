"""A token request during the set-up of another app builder: neither may affect the other."""

from __future__ import annotations

from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.pages import SEE_LOG
from airflow_auth_patches.demo.preparation import USER, Settings
from airflow_auth_patches.demo.scenario import Scenario, Tally
from airflow_auth_patches.demo.scenarios.token_race import observe
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

ROUNDS = 5
DEADLINE = 60.0
BEGIN = Request("POST", "/second-app-builder/begin")
END = Request("POST", "/second-app-builder/end")
LOG_IN = Request("POST", "/auth/token", 201, json=USER)


def run(server: Server) -> Observation:
    """
    Repeatedly start the set-up of an app builder, request a token, and continue the set-up.

    :param server: a server with the probe ``second_app_builder``.
    :raises Problem: when a set-up does not pause half-way.
    """
    mark = server.log_size()
    sent = Tally(server.url, DEADLINE, ROUNDS, "app builders", "tokens")
    for _ in range(ROUNDS):
        begun = send(server.url, [BEGIN], deadline=DEADLINE)
        if begun.failures:
            ways = dict(begun.outcomes)
            raise Problem(
                f"The set-up of an app builder of {server.pair} did not pause half-way: {ways}.",
                SEE_LOG,
                Exit.FAILED,
            )
        sent.send("tokens", LOG_IN)
        sent.send("app builders", END)
    return observe(server, mark, sent.measurements)


SCENARIOS = (
    Scenario(
        name="second-app-builder",
        about=(
            f"{ROUNDS} times: another app builder is set up, half-way a POST /auth/token, then the rest of it"
        ),
        bugs=("security-manager-reader",),
        pairs=("3.2.2+3.6.5", "3.3.2+3.10.2"),
        run=run,
        settings=Settings(probes=("second_app_builder",)),
        minimal=True,
        note="A plugin in the server stops the set-up half-way; by itself the gap is too short to be hit.",
    ),
)
