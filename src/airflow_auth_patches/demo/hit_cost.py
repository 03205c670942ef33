"""
Measure a cache hit of the revocation check, and the query that a cache hit avoids.

``scenarios.check_cost`` runs this file as a separate program in the Airflow environment, on a server's
database. Arguments: the file to write, then one or more numbers of threads, such as ``8``. The file contains
the seconds of one call for each number of threads, as JSON: ``{"8": {"query": ..., "hit": ...}}``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

ROUNDS = 9
#: Minimum seconds of a round of calls.
ROUND = 0.2
PATIENCE = 120.0


def seconds_per_call(call: Callable[[], object], threads: int, count: int) -> float:
    """
    Call a function in several threads concurrently.

    :param call: the function.
    :param threads: the number of threads.
    :param count: the number of calls per thread.
    :return: the seconds per call: the total time divided by the calls of all threads.
    """
    ready = threading.Barrier(threads + 1)

    def work() -> None:
        ready.wait(PATIENCE)
        for _ in range(count):
            call()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait(PATIENCE)
    begun = time.perf_counter()
    for worker in workers:
        worker.join(PATIENCE)
        if worker.is_alive():
            raise SystemExit("A thread did not end. Run the scenario again on an idle machine.")
    return (time.perf_counter() - begun) / (threads * count)


def calls_per_round(call: Callable[[], object], threads: int) -> int:
    """
    Return the number of calls per thread for a round that takes much longer than starting the threads.

    :param call: the function.
    :param threads: the number of threads.
    """
    count = 20
    # Measure all calls each time: a few calls appear slow if a thread starts slowly.
    while seconds_per_call(call, threads, count) * threads * count < ROUND:
        count *= 2
    return count


def timed(calls: Mapping[str, Callable[[], object]], threads: int) -> dict[str, float]:
    """
    Return the seconds per call of each function: the minimum of several alternating rounds.

    :param calls: the functions, by name.
    :param threads: the number of threads.
    """
    counts = {name: calls_per_round(call, threads) for name, call in calls.items()}
    rounds = [
        {name: seconds_per_call(call, threads, counts[name]) for name, call in calls.items()}
        for _ in range(ROUNDS)
    ]
    return {name: min(one[name] for one in rounds) for name in calls}


def main(target: str, *numbers: str) -> None:
    """
    Measure the query and the cache hit, for each number of threads.

    :param target: the file to write.
    :param numbers: numbers of threads.
    """
    # One connection per thread, so that the measurement does not include waiting for a connection.
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE"] = str(max(map(int, numbers)))
    model = importlib.import_module("airflow.models.revoked_token").RevokedToken
    settings = importlib.import_module("airflow.settings")
    if settings.Session is None:
        settings.configure_orm()
    create_session = importlib.import_module("airflow.utils.session").create_session
    jti = uuid.uuid4().hex

    def query() -> None:
        # With a session of the caller, the check always queries the database.
        with create_session(scoped=False) as session:
            model.is_revoked(jti, session=session)

    def hit() -> None:
        model.is_revoked(jti)

    hit()
    figures = {number: timed({"query": query, "hit": hit}, int(number)) for number in numbers}
    Path(target).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
