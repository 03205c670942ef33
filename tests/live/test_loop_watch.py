"""The probe `loop_watch`, in a real Airflow with a private database."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_auth_patches.demo.preparation import PROBES

pytestmark = pytest.mark.airflow

PROGRAM = """\
import json, sys
sys.path.insert(0, sys.argv[1])
from airflow import settings
from airflow.models.base import Base
from airflow.models.pool import Pool
import loop_watch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, exc, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

Base.metadata.create_all(settings.engine, tables=[Pool.__table__])
reports = {}
app = FastAPI()
app.mount("/loop-watch", loop_watch.app)

def ask():
    with settings.get_session()() as session:
        return len(Pool.get_pools(session=session))

@app.get("/on/{name}")
async def on(name: str):
    return ask()

@app.get("/off/{name}")
def off(name: str):
    return ask()

@app.get("/async")
async def asynchronous():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    await engine.dispose()

@app.get("/waits")
async def waits():
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=1)
    with engine.connect():
        try:
            engine.connect()
        except exc.TimeoutError:
            pass

@app.get("/nested")
def nested():
    with settings.engine.connect():
        return ask()

app.add_middleware(loop_watch.PerRequest)
with TestClient(app) as client:
    for name in ("on/a", "on/b", "off/a", "async", "waits", "nested"):
        client.post("/loop-watch/reset")
        answer = client.get("/" + name)
        assert answer.status_code == 200, answer.text
        reports[name] = client.get("/loop-watch/report").json()
print("RESULT" + json.dumps(reports))
"""


@pytest.fixture(scope="module")
def reports(in_airflow: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    database = tmp_path_factory.mktemp("database") / "a.db"
    address = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"}
    printed = in_airflow("3.3.2+3.10.2", PROGRAM, PROBES, **address)
    (line,) = [line for line in printed.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT"))


def sites(report: Any, kind: str) -> dict[str, Any]:
    return {each["site"]: each["routes"] for each in report["sites"] if each["kind"] == kind}


def test_counts_calls_on_loop_by_call_site_and_route(reports: Any) -> None:
    site = "airflow/models/pool.py:Pool.get_pools"
    assert reports["on/a"]["totals"]["statements"] == 1
    assert sites(reports["on/a"], "statements") == {f"{site} (slot_pool)": {"GET /on/{name}": 1}}
    assert sites(reports["on/a"], "checkouts") == {site: {"GET /on/{name}": 1}}
    assert reports["on/a"]["totals"]["ends"] > 0


def test_reset_clears_counts(reports: Any) -> None:
    assert reports["on/b"]["totals"]["statements"] == 1
    assert reports["on/b"]["totals"]["checkouts"] == 1


def test_does_not_count_calls_in_worker_thread(reports: Any) -> None:
    assert set(reports["off/a"]["totals"].values()) == {0}
    assert reports["off/a"]["sites"] == []


def test_counts_asynchronous_engines_separately(reports: Any) -> None:
    assert set(reports["async"]["totals"].values()) == {0}
    assert reports["async"]["exempt"]["statements"] == 1
    assert reports["async"]["exempt"]["checkouts"] == 1


def test_wait_for_connection_blocks_loop(reports: Any) -> None:
    seen = reports["waits"]
    assert seen["totals"]["waits"] == 1
    assert seen["totals"]["checkouts"] == 1
    assert seen["waited"] >= 1
    assert seen["longest_stop"] >= 0.9
    assert 0 < seen["longest_block"] <= seen["longest_stop"] + 0.1
    assert seen["late_beats"] >= 1
    due, lag = max(seen["lags"], key=lambda point: point[1])
    assert lag == pytest.approx(seen["longest_stop"], abs=0.001)
    assert 0 <= due <= seen["seconds"] - lag + 0.1
    assert any("GET /waits" in stop for stop in seen["stops"])


def test_counts_second_connection_of_request_in_any_thread(reports: Any) -> None:
    site = "airflow/models/pool.py:Pool.get_pools"
    assert reports["nested"]["totals"] == {
        "statements": 0,
        "checkouts": 0,
        "ends": 0,
        "waits": 0,
        "nested": 1,
    }
    assert sites(reports["nested"], "nested") == {site: {"GET /nested": 1}}
    assert reports["on/a"]["totals"]["nested"] == 0
