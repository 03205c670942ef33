"""Adding users, the probe `user_watch`, and the pure Python MySQL driver, in a real Airflow."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_auth_patches.demo import mariadb, users
from airflow_auth_patches.demo.preparation import PROBES

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.parametrize("pair", ["3.3.2+3.10.2", pytest.param("3.1.6+3.3.0", marks=pytest.mark.slow)]),
]
InAirflow = Callable[..., str]


def test_adds_users_with_roles_of_first_user(pair: str, in_airflow: InAirflow, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.executescript(
        """
        CREATE TABLE ab_user (
            id INTEGER PRIMARY KEY, username TEXT UNIQUE, email TEXT UNIQUE, password TEXT, active BOOLEAN
        );
        CREATE TABLE ab_user_role (id INTEGER PRIMARY KEY, user_id INTEGER, role_id INTEGER);
        INSERT INTO ab_user VALUES (3, 'admin', 'admin@example.invalid', 'secret', 1);
        INSERT INTO ab_user VALUES (4, 'other', 'other@example.invalid', 'other', 0);
        INSERT INTO ab_user_role VALUES (1, 3, 5), (2, 3, 6), (3, 4, 7);
        """
    )
    address = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/a.db"}
    in_airflow(pair, users.ADD, 1001, 1002, **address)
    added = connection.execute("SELECT id, password, active FROM ab_user WHERE id > 4 ORDER BY id").fetchall()
    assert added == [(1001, "secret", 1), (1002, "secret", 1)]
    held = connection.execute("SELECT user_id, role_id FROM ab_user_role WHERE user_id > 4 ORDER BY 1, 2")
    assert held.fetchall() == [(1001, 5), (1001, 6), (1002, 5), (1002, 6)]
    connection.close()


WATCHED = """\
import json, sys
sys.path.insert(0, sys.argv[1])
import user_watch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text

engine = create_engine(f"sqlite:///{sys.argv[2]}")
with engine.begin() as connection:
    for table in ("ab_user", "ab_role", "dag"):
        connection.execute(text(f"CREATE TABLE {table} (id INTEGER)"))
app = FastAPI()
app.mount("/user-watch", user_watch.app)

def ask(*statements):
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))

@app.get("/on")
async def on():
    ask('SELECT id FROM "ab_user" WHERE id = 1', "SELECT id FROM dag")

@app.get("/off")
def off():
    renamed = "SELECT a.id FROM ab_user AS a JOIN ab_role ON a.id = ab_role.id"
    ask("SELECT id FROM ab_user", renamed, "SELECT id FROM dag")

with TestClient(app) as client:
    reports = {}
    for name in ("on", "off", "user-watch/report"):
        client.post("/user-watch/reset")
        assert client.get("/" + name).status_code == 200
        reports[name] = client.get("/user-watch/report").json()
print("RESULT" + json.dumps(reports))
"""


def test_counts_queries_on_fab_tables_and_on_the_loop(
    pair: str, in_airflow: InAirflow, tmp_path: Path
) -> None:
    address = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/a.db"}
    printed = in_airflow(pair, WATCHED, PROBES, tmp_path / "b.db", **address)
    (line,) = [line for line in printed.splitlines() if line.startswith("RESULT")]
    assert json.loads(line.removeprefix("RESULT")) == {
        "on": {"users": 1, "queries": 1, "on_loop": 1},
        "off": {"users": 1, "queries": 2, "on_loop": 0},
        "user-watch/report": {"users": 0, "queries": 0, "on_loop": 0},
    }


DRIVER = """\
import airflow
from airflow import settings
from pendulum import DateTime
import pymysql.converters
print("RESULT", settings.engine.dialect.driver, pymysql.converters.conversions[DateTime].__name__)
"""


def test_airflow_starts_with_pure_python_mysql_driver(pair: str, in_airflow: InAirflow) -> None:
    address = "mysql+{}://airflow:x@127.0.0.1:1/airflow?charset=utf8mb4"
    printed = in_airflow(
        pair,
        DRIVER,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=address.format("pymysql"),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=address.format("aiomysql"),
        **mariadb.MariaDB.variables,
    )
    assert "RESULT pymysql escape_datetime" in printed
