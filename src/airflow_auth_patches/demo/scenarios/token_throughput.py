"""The number of tokens per second for concurrent token requests."""

from __future__ import annotations

from dataclasses import replace

from airflow_auth_patches.demo import plot_data
from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.preparation import USER
from airflow_auth_patches.demo.scenario import Scenario, rounds
from airflow_auth_patches.demo.scenarios.token_race import observe
from airflow_auth_patches.demo.server import Server

AT_ONCE = 20
ROUNDS = 6
#: Seconds for each round: on a busy machine, the minimal patches need 40 and more.
DEADLINE = 120.0
#: The minimum ratio to the throughput with only the minimal patches.
TIMES = 2.5


def run(server: Server) -> Observation:
    """Send concurrent logins in several rounds."""
    mark = server.log_size()
    log_in = Request("POST", "/auth/token", 201, json=USER)
    measurement = rounds(server, f"{AT_ONCE} at once", [log_in] * AT_ONCE, count=ROUNDS, deadline=DEADLINE)
    seen = observe(server, mark, (measurement,))
    result = measurement.result
    given = (len(result.answers) - len(result.failures)) / result.wall
    details = {
        "tokens_per_second": round(given, 2),
        "plots": [plot_data.bars("Tokens per second", {"tokens per second": round(given, 1)})],
    }
    return replace(seen, sees=f"{seen.sees}; {given:.1f} tokens a second", details=details)


def compare(minimal: Observation, patched: Observation) -> Observation:
    """
    Compare the throughput of all patches with that of the minimal patches, which only cure the failures.

    :param minimal: the observation with the minimal patches.
    :param patched: the observation with all patches.
    :return: the observation with all patches, with the ratio. It is inconclusive if the minimal patches fail.
    """
    if patched.failed:
        return patched
    if minimal.failed:
        sees = f"{patched.sees}; nothing to compare with: the minimal patches fail"
        return replace(patched, failed=True, inconclusive=True, sees=sees)
    times = patched.details["tokens_per_second"] / minimal.details["tokens_per_second"]
    return replace(
        patched,
        failed=times < TIMES,
        sees=f"{patched.sees}; {times:.1f} times as many as with the minimal patches",
        details={**patched.details, "times_minimal": round(times, 2)},
    )


SCENARIOS = (
    Scenario(
        name="token-throughput",
        about=(
            f"POST /auth/token: {ROUNDS} rounds of {AT_ONCE} at once, deadline {DEADLINE:.0f} s; must be "
            f"{TIMES} times as many a second as with the minimal patches"
        ),
        bugs=("auth-manager-race", "appbuilder-race", "application-builder-leak"),
        pairs=("3.1.6+3.3.0",),
        run=run,
        minimal=True,
        compare_with_minimal=compare,
    ),
)
