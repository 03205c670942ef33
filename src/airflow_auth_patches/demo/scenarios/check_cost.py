"""The cost of the revocation check: compared with a server without it, and a cache hit with the query."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from airflow_auth_patches.demo import plot_data
from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.ratios import Ratios
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

PAIRS = ("3.2.2+3.6.5", "3.3.2+3.10.2")
ROUNDS = 9
WARMING = 60
REQUESTS = 300
CONCURRENCY = 30
PATH = "/api/v2/dags?limit=5"
DEADLINE = 20.0
#: The maximum run time of a round, as a ratio to a round without the check (median).
MOST = 1.10
SETTINGS = Settings(pool_timeout=5, user_cache_ttl=600, revocation_cache_ttl=0)

BENCHMARK = Path(__file__).parents[1] / "hit_cost.py"
#: The minimum speed-up of a cache hit over the query, and the tested numbers of threads.
CHEAPER = 100
THREADS = (1, 8)


def ratio(server: Server) -> Observation:
    """Compare a server with the check and one without it, with a different token per request."""
    total = {"check": Result([], 0), "no check": Result([], 0)}
    ratios: list[float] = []
    with server.sibling("no-check", probes=("no_check",)) as unchecked:
        servers = {"check": server, "no check": unchecked.wait()}
        tokens = server.tokens(REQUESTS * (2 * ROUNDS + 2))
        for number in range(ROUNDS + 1):
            walls = {}
            # Alternate the order, so that neither server always runs second.
            for name in sorted(servers, reverse=bool(number % 2)):
                requests = [
                    Request("GET", PATH, token=tokens.pop()) for _ in range(REQUESTS if number else WARMING)
                ]
                result = send(servers[name].url, requests, deadline=DEADLINE, concurrency=CONCURRENCY)
                walls[name] = result.wall
                if number or result.failures:  # round 0 is a warm-up
                    total[name] += result
                if result.unfinished:
                    return compare(total, ratios, number)
            if number:
                ratios.append(walls["check"] / walls["no check"])
    return compare(total, ratios, ROUNDS)


def compare(total: dict[str, Result], ratios: list[float], rounds: int) -> Observation:
    """
    Return the observation of a server that is compared with one without the check.

    :param total: the results of all rounds, of ``check`` and ``no check``.
    :param ratios: the ratio of the run times of each finished round.
    :param rounds: the number of rounds that ran.
    """
    measurements = tuple(
        Measurement(name, result, DEADLINE, rounds, ROUNDS)
        for name, result in total.items()
        if result.answers
    )
    if len(ratios) < ROUNDS:
        return Observation.of(measurements, "did not finish, so there is no ratio", failed=True)
    compared = Ratios(ratios)
    slower = compared.exceed(MOST)
    check, no_check = (total[name].wall / ROUNDS for name in ("check", "no check"))
    return Observation.of(
        measurements,
        compared.text("the wall time of no check"),
        f"{check:.1f} s a round, no check {no_check:.1f} s",
        details={
            "plots": [
                plot_data.curve(
                    "Time with the check, divided by the time without it",
                    "round",
                    "ratio",
                    {"ratio": [(number, round(each, 3)) for number, each in enumerate(ratios, 1)]},
                    limit=MOST,
                )
            ]
        },
        failed=slower is not False,
        inconclusive=slower is None and not any(each.failures for each in total.values()),
    )


def hit(server: Server) -> Observation:
    """
    Measure the check of a cached token and the query that it avoids, in a separate process.

    :param server: the server whose database is used.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        server.run(BENCHMARK, str(target), *map(str, THREADS))
        measured = json.loads(target.read_text())
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
        details={
            "plots": [
                plot_data.bars(
                    "Time of one check",
                    {
                        f"{name}, {threads} thread{'s' * (threads > 1)}": round(seconds * 1e6, 1)
                        for threads, query, again in figures
                        for name, seconds in (("query", query), ("asked again", again))
                    },
                    unit="us",
                )
            ]
        },
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
