"""The probe `pool_watch`, in a real Airflow with a private pool."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_auth_patches.demo.preparation import PROBES
from airflow_auth_patches.demo.ui_load_runs import most_waiting

PROGRAM = """\
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import pool_watch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

pool_watch.STDERR = 1
app = FastAPI()
app.mount("/pool-watch", pool_watch.app)
engine = create_engine(
    "sqlite://",
    poolclass=QueuePool,
    pool_size=1,
    max_overflow=1,
    pool_timeout=60,
    connect_args={"check_same_thread": False},
)

def wait(count):
    held = [engine.connect(), engine.connect()]
    threads = [threading.Thread(target=lambda: engine.connect().close()) for _ in range(count)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while pool_watch.counted["waiting"] < count:
        assert time.monotonic() < until
        time.sleep(0.01)
    for connection in held:
        connection.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()

with TestClient(app) as client:
    for count in (0, 3, 1):
        print("==", flush=True)
        assert client.post("/pool-watch/reset").status_code == 200
        wait(count)
assert pool_watch.counted["waiting"] == 0
"""


@pytest.mark.airflow
@pytest.mark.parametrize("pair", ["3.3.2+3.10.2", pytest.param("3.2.2+3.6.5", marks=pytest.mark.slow)])
def test_counts_waiting_threads_since_reset(pair: str, in_airflow: Callable[..., str]) -> None:
    _, none, three, one = in_airflow(pair, PROGRAM, PROBES).split("==\n")
    assert [most_waiting(each) for each in (none, three, one)] == [0, 3, 1]
