"""How many tokens a server gives a second when many are asked for at once."""

from __future__ import annotations

from dataclasses import replace

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.preparation import USER
from airflow_auth_patches.demo.scenario import Scenario, rounds
from airflow_auth_patches.demo.scenarios.token_race import observe
from airflow_auth_patches.demo.server import Server

AT_ONCE = 20
ROUNDS = 6
DEADLINE = 40.0
#: How many times as many it must be as with the minimal patches alone.
TIMES = 2.5


def run(server: Server) -> Observation:
    """
    Log in many times at once, round after round.

    :param server: a fresh one.
    """
    mark = server.log_size()
    log_in = Request("POST", "/auth/token", 201, json=USER)
    measurement = rounds(server, f"{AT_ONCE} at once", [log_in] * AT_ONCE, count=ROUNDS, deadline=DEADLINE)
    seen = observe(server, mark, (measurement,))
    result = measurement.result
    given = (len(result.answers) - len(result.failures)) / result.wall
    return replace(
        seen, sees=f"{seen.sees}; {given:.1f} tokens a second", details={"tokens_per_second": round(given, 2)}
    )


def beside(minimal: Observation, patched: Observation) -> Observation:
    """
    Compare what all patches reach with what the minimal patches reach, which cure the failures only.

    :param minimal: what was seen with those alone.
    :param patched: what was seen with all.
    """
    if patched.failed:
        return patched
    if minimal.failed:
        return replace(
            patched, failed=True, sees=f"{patched.sees}; nothing to compare with: the minimal patches fail"
        )
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
        compare_with_minimal=beside,
    ),
)
