"""A token request during the set-up of another app builder: neither may affect the other."""

from __future__ import annotations

from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation, race_errors
from airflow_auth_patches.demo.pages import SEE_LOG
from airflow_auth_patches.demo.preparation import USER, Settings
from airflow_auth_patches.demo.scenario import Scenario
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
    tokens, set_ups = Result([], 0), Result([], 0)
    for _ in range(ROUNDS):
        begun = send(server.url, [BEGIN], deadline=DEADLINE)
        if begun.failures:
            ways = dict(begun.outcomes)
            raise Problem(
                f"The set-up of an app builder of {server.pair} did not pause half-way: {ways}.",
                SEE_LOG,
                Exit.FAILED,
            )
        tokens += send(server.url, [LOG_IN], deadline=DEADLINE)
        set_ups += send(server.url, [END], deadline=DEADLINE)
    measurements = (
        Measurement("app builders", set_ups, DEADLINE, ROUNDS, ROUNDS),
        Measurement("tokens", tokens, DEADLINE, ROUNDS, ROUNDS),
    )
    errors = race_errors(server.log_since(mark))
    parts = [str(each) for each in measurements]
    if errors:
        parts.append("logged: " + ", ".join(f"{count} x {name}" for name, count in errors.items()))
    return Observation(
        sees="; ".join(parts),
        failed=bool(errors) or any(each.result.failures for each in measurements),
        measurements=measurements,
        log_errors=errors,
    )


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
