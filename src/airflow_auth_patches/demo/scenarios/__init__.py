"""The scenarios of the demonstration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.scenarios import (
    admission_plugin,
    check_cost,
    database_waits,
    dropped_connections,
    fab_routes,
    logout,
    memory_growth,
    pool_exhaustion,
    public_user,
    route_sweep,
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

#: In the order of the demonstration.
MODULES = (
    *(session_cleanup, token_race, token_throughput, second_app_builder, sequence, fab_routes),
    *(memory_growth, truncated_page, pool_exhaustion, user_cache_misses, check_cost, database_waits),
    *(public_user, logout, dropped_connections, route_sweep, admission_plugin, ui_load),
)
ALL: tuple[Scenario, ...] = tuple(scenario for module in MODULES for scenario in module.SCENARIOS)

#: The scenarios of the short demonstration, and its pairs: the oldest and the newest one. It takes minutes.
SHORT = ("session-cleanup", "token-race", "table-locked", "logout-leeway", "browser-sessions")
SHORT_PAIRS = ("3.1.6+3.3.0", "3.3.2+3.10.2")


def choose(names: Sequence[str], *, everything: bool = False) -> tuple[Scenario, ...]:
    """
    Return the chosen scenarios, in the order of the demonstration.

    :param names: the names of the scenarios; by default those of the short demonstration, on its pairs.
    :param everything: whether to return every scenario on every pair.
    :raises Problem: when a name is unknown.
    """
    known = [scenario.name for scenario in ALL]
    for name in names:
        if name not in known:
            raise Problem(f"There is no scenario {name!r}.", f"Choose one of {', '.join(known)}.", Exit.USAGE)
    if everything:
        return ALL
    if names:
        return tuple(scenario for scenario in ALL if scenario.name in names)
    return tuple(
        replace(scenario, pairs=tuple(pair for pair in scenario.pairs if pair in SHORT_PAIRS))
        for scenario in ALL
        if scenario.name in SHORT
    )
