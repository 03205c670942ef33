"""What the revocation check costs: beside a server without it, and a cache hit beside the query."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

PAIRS = ("3.2.2+3.6.5", "3.3.2+3.10.2")
ROUNDS = 9
WARMING = 60
REQUESTS = 300
CONCURRENCY = 30
PATH = "/api/v2/dags?limit=5"
DEADLINE = 20.0
#: The most that a round may take, as a median, of what it takes without any check.
MOST = 1.10
SETTINGS = Settings(pool_timeout=5, user_cache_ttl=600, revocation_cache_ttl=0)

BENCHMARK = Path(__file__).parents[1] / "hit_cost.py"
#: How many times cheaper than the query a hit must be, and with how many threads.
CHEAPER = 100
THREADS = (1, 8)


def ratio(server: Server) -> Observation:
    """
    Load a server with the check and one without, in turns, each request with a token of its own.

    :param server: a fresh one with a small pool and the cache off.
    """
    total = {"check": Result([], 0), "no check": Result([], 0)}
    ratios: list[float] = []
    with server.sibling("no-check", probes=("no_check",)) as free:
        servers = {"check": server, "no check": free.wait()}
        tokens = server.tokens(REQUESTS * (2 * ROUNDS + 2))
        for number in range(ROUNDS + 1):
            walls = {}
            # Now the one first, now the other, so that neither always has the warmer machine.
            for name in sorted(servers, reverse=bool(number % 2)):
                requests = [
                    Request("GET", PATH, token=tokens.pop()) for _ in range(REQUESTS if number else WARMING)
                ]
                result = send(servers[name].url, requests, deadline=DEADLINE, concurrency=CONCURRENCY)
                walls[name] = result.wall
                if number or result.failures:  # the first round only warms up
                    total[name] += result
                if result.unfinished:
                    return _compared(total, ratios, number)
            if number:
                ratios.append(walls["check"] / walls["no check"])
    return _compared(total, ratios, ROUNDS)


def _compared(total: dict[str, Result], ratios: list[float], rounds: int) -> Observation:
    measurements = tuple(
        Measurement(name, result, DEADLINE, rounds, ROUNDS)
        for name, result in total.items()
        if result.answers
    )
    told = [str(each) for each in measurements]
    finished = len(ratios) == ROUNDS
    if finished:
        median = statistics.median(ratios)
        told.append(
            f"{median:.2f} times the wall time of no check (median of {ROUNDS} rounds,"
            f" {min(ratios):.2f} to {max(ratios):.2f})"
        )
        told.append(
            f"{total['check'].wall / ROUNDS:.1f} s a round, no check {total['no check'].wall / ROUNDS:.1f} s"
        )
    else:
        median = float("inf")
        told.append("did not finish, so there is no ratio")
    failed = median > MOST or any(each.result.failures for each in measurements)
    return Observation(sees="; ".join(told), failed=failed, measurements=measurements)


def hit(server: Server) -> Observation:
    """
    Time the check of one and the same token, and the query that it spares, in a process of their own.

    :param server: one whose database is used.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        server.run(BENCHMARK, str(told), *map(str, THREADS))
        measured = json.loads(told.read_text())
    figures = [
        (threads, measured[str(threads)]["query"], measured[str(threads)]["hit"]) for threads in THREADS
    ]
    return Observation(
        sees="; ".join(
            f"{threads} thread{'s' * (threads > 1)}: query {query * 1e6:.0f} us, asked again"
            f" {again * 1e6:.1f} us ({query / again:.0f} times cheaper)"
            for threads, query, again in figures
        ),
        failed=any(query < again * CHEAPER for _, query, again in figures),
    )


SCENARIOS = (
    Scenario(
        name="no-check-ratio",
        about=(
            f"{ROUNDS} rounds in turns with a server without the check: {REQUESTS} GET {PATH}, "
            f"{CONCURRENCY} at once, each its own token, cache off; deadline {DEADLINE:.0f} s; "
            f"at most {MOST:.2f} times its time"
        ),
        bugs=("revocation-freeze",),
        pairs=PAIRS,
        run=ratio,
        settings=SETTINGS,
    ),
    Scenario(
        name="hit-cost",
        about=(
            f"the check of a token asked about before, in {' and '.join(map(str, THREADS))} threads, without "
            f"metrics: at least {CHEAPER} times cheaper than the query"
        ),
        bugs=("revocation-query",),
        pairs=PAIRS,
        run=hit,
    ),
)
