"""
Times the revocation check of a token that was asked about before, and the query that it may spare.

This file is a program of its own, run by ``scenarios.check_cost`` in the Airflow environment, on a server's
database. Arguments: the file to write, then how many threads to time, each such as ``8``. The file gets, as
JSON, for each number the seconds of one call: ``{"8": {"query": ..., "hit": ...}}``.
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
#: Seconds that a round of calls takes at least, when it is chosen.
ROUND = 0.2
PATIENCE = 120.0


def each(call: Callable[[], object], threads: int, count: int) -> float:
    """
    Make calls in several threads at once.

    :param call: what each thread calls.
    :param threads: how many there are.
    :param count: how often each calls it.
    :return: the seconds of one call: the whole time, by the calls of all threads.
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
            raise SystemExit("a thread did not end")
    return (time.perf_counter() - begun) / (threads * count)


def enough(call: Callable[[], object], threads: int) -> int:
    """
    Tell how often each thread must call for a round that is long beside the start of threads.

    :param call: what each thread calls.
    :param threads: how many there are.
    """
    count = 20
    # Doubled until it is, as one slow start would make a few calls look long.
    while each(call, threads, count) * threads * count < ROUND:
        count *= 2
    return count


def timed(calls: Mapping[str, Callable[[], object]], threads: int) -> dict[str, float]:
    """
    Tell the seconds of one call of each: the shortest of rounds in turns, which others disturbed least.

    :param calls: what is called, by name.
    :param threads: in how many threads at once.
    """
    counts = {name: enough(call, threads) for name, call in calls.items()}
    rounds = [
        {name: each(call, threads, counts[name]) for name, call in calls.items()} for _ in range(ROUNDS)
    ]
    return {name: min(one[name] for one in rounds) for name in calls}


def main(told: str, *numbers: str) -> None:
    """
    Time both, for each number of threads.

    :param told: the file to write.
    :param numbers: of threads.
    """
    # A connection for each thread: what is timed is the query, not the wait for one.
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE"] = str(max(map(int, numbers)))
    model = importlib.import_module("airflow.models.revoked_token").RevokedToken
    settings = importlib.import_module("airflow.settings")
    if settings.Session is None:
        settings.configure_orm()
    create_session = importlib.import_module("airflow.utils.session").create_session
    jti = uuid.uuid4().hex

    def query() -> None:
        # A session of the caller's is always asked, cache or not.
        with create_session(scoped=False) as session:
            model.is_revoked(jti, session=session)

    def again() -> None:
        model.is_revoked(jti)

    again()
    figures = {number: timed({"query": query, "hit": again}, int(number)) for number in numbers}
    Path(told).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
