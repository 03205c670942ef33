"""
The benchmark: the same loads on stock, patched and other servers, in alternating rounds.

Each round measures all servers of a load directly after each other, so that the ratio of two servers in one
round depends little on other work on the machine.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from airflow_auth_patches.demo import users
from airflow_auth_patches.demo.bench_loads import DAGS, Load
from airflow_auth_patches.demo.load import send
from airflow_auth_patches.demo.managed import all_stopped
from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.preparation import Keys, Preparation, Settings
from airflow_auth_patches.demo.run import private_folder
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util.progress import Progress

PAIRS = ("3.2.0+3.6.0", "3.2.2+3.6.5", "3.3.2+3.10.2")
ROUNDS = 5
#: After this number of rounds with lost requests, a server is not measured again: it hangs each time.
HANGS = 2

STOCK = "stock"
PLUGIN = "stock + plugin"
PATCHED = "all patches"
LARGE_POOL = "stock, pool 40+160"
#: The servers, in the order of the tables.
SERVERS = (STOCK, PLUGIN, PATCHED, LARGE_POOL)


def settings_of(server: str, load: Load) -> Settings:
    """
    Return the settings of a server for a load.

    :param server: one of `SERVERS`.
    :param load: the load.
    """
    if server == LARGE_POOL:
        return replace(load.settings, pool_size=40, max_overflow=160)
    return replace(load.settings, admission_plugin=server == PLUGIN)


def measure(
    pair: Pair,
    stock: Environment,
    patched: Environment,
    loads: Sequence[Load],
    *,
    rounds: int,
    logs: Path,
    progress: Progress,
) -> dict[str, Any]:
    """
    Run loads on the servers of a pair of releases, which share a machine and a PostgreSQL server.

    All files are in a private folder. Servers and folder are removed at the end, also after an error.

    :param pair: the releases.
    :param stock: their environment without patches.
    :param patched: their environment with all patches.
    :param loads: the loads.
    :param rounds: the number of rounds.
    :param logs: the folder for the logs of the servers.
    :param progress: shows each step.
    :return: ``measured`` (a date), ``cpus``, ``machine``, ``rounds`` and ``loads``: for each load ``about``
        and ``servers``, with the samples of each server by name. A sample has ``round`` and the values of
        :class:`airflow_auth_patches.demo.bench_loads.Sample`.
    :raises Problem: when a server cannot be started.
    """
    logs.mkdir(parents=True, exist_ok=True)
    found = {}
    with private_folder() as folder, all_stopped(), ExitStack() as stack:
        database = stack.enter_context(PostgreSQL(folder / "postgresql"))
        prepared = stack.enter_context(Preparation(stock, database, "base", folder / "base", Keys()))
        with progress.task(f"{pair.name}: preparing a database"):
            prepared.wait()
        for load in loads:
            with ExitStack() as booted:
                servers = {
                    name: booted.enter_context(
                        Server(
                            patched if name == PATCHED else stock,
                            pair.name,
                            f"server{number}",
                            prepared=prepared,
                            settings=settings_of(name, load),
                            log=logs / f"{load.name}-{pair.name}-{name.replace(' ', '-')}.log",
                        )
                    )
                    for number, name in enumerate(SERVERS)
                }
                with progress.task(f"{pair.name}: {load.name}: booting", len(servers)) as advance:
                    people = {}
                    for name, server in servers.items():
                        people[name] = _warm_up(server.wait(), load)
                        advance(1)
                samples = _rounds(load, servers, people, rounds, f"{pair.name}: {load.name}", progress)
            found[load.name] = {"about": load.about, "servers": samples}
    return {
        "measured": date.today().isoformat(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "rounds": rounds,
        "loads": found,
    }


def _warm_up(server: Server, load: Load) -> list[int]:
    """Send the first requests, which take longer, and return the ids of the added users."""
    people = users.add(server, load.users) if load.users else []
    send(server.url, [DAGS.filled(server.token(), {})] * 10, deadline=60, concurrency=1)
    return people


def _rounds(
    load: Load,
    servers: Mapping[str, Server],
    people: Mapping[str, Sequence[int]],
    rounds: int,
    title: str,
    progress: Progress,
) -> dict[str, list[dict[str, Any]]]:
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    with progress.task(title, rounds * len(servers)) as advance:
        for number in range(1, rounds + 1):
            # Alternate the order: the machine can be busier later.
            for name in list(servers)[:: 1 if number % 2 else -1]:
                if not hangs(samples[name]):
                    sample = load.run(servers[name], people[name])
                    samples[name].append({"round": number, **sample.data()})
                    if sample.lost and number < rounds and not hangs(samples[name]):
                        servers[name].restart()  # it can hang until the pool time-out
                advance(1)
    return samples


def hangs(samples: Sequence[Mapping[str, Any]]) -> bool:
    """Check whether a server lost requests in so many rounds that it is not measured again."""
    return sum(bool(sample["lost"]) for sample in samples) >= HANGS
