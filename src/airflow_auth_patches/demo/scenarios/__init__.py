"""The scenarios of the demonstration, one module for each bug."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.scenarios import (
    admission_plugin,
    check_cost,
    database_waits,
    dropped_connections,
    fab_routes,
    logout,
    loop_tour,
    memory_growth,
    pool_exhaustion,
    public_user,
    second_app_builder,
    sequence,
    session_cleanup,
    token_race,
    token_throughput,
    truncated_page,
    ui_load,
    user_cache_misses,
)
from airflow_auth_patches.util.errors import Exit, Problem

ALL: tuple[Scenario, ...] = (
    *session_cleanup.SCENARIOS,
    *token_race.SCENARIOS,
    *token_throughput.SCENARIOS,
    *second_app_builder.SCENARIOS,
    *sequence.SCENARIOS,
    *fab_routes.SCENARIOS,
    *memory_growth.SCENARIOS,
    *truncated_page.SCENARIOS,
    *pool_exhaustion.SCENARIOS,
    *user_cache_misses.SCENARIOS,
    *check_cost.SCENARIOS,
    *database_waits.SCENARIOS,
    *public_user.SCENARIOS,
    *logout.SCENARIOS,
    *dropped_connections.SCENARIOS,
    *loop_tour.SCENARIOS,
    *admission_plugin.SCENARIOS,
    *ui_load.SCENARIOS,
)


def choose(names: Sequence[str]) -> tuple[Scenario, ...]:
    """
    Return the scenarios of those names, in the order of the demonstration.

    :param names: their names; all scenarios when there are none.
    :raises Problem: when a name is no scenario's.
    """
    known = [scenario.name for scenario in ALL]
    for name in names:
        if name not in known:
            raise Problem(f"There is no scenario {name!r}.", f"There are: {', '.join(known)}.", Exit.USAGE)
    return tuple(scenario for scenario in ALL if not names or scenario.name in names)
