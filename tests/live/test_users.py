"""Adding users, the probe `user_watch`, and the pure Python MySQL driver, in a real Airflow."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_auth_patches.demo import mariadb, users
from airflow_auth_patches.demo.preparation import PROBES
from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util.processes import run

Program = Callable[..., str]


@pytest.fixture(params=["3.3.2+3.10.2", pytest.param("3.1.6+3.3.0", marks=pytest.mark.slow)])
def in_airflow(
    request: pytest.FixtureRequest, root: Path, pins: Pins, python: str, tmp_path: Path
) -> Program:
    """Return a function that runs a program in Airflow's environment and returns its output."""
    pair = pins.pair(request.param)
    environment: Environment = environments.make(
        pair, python, pair_environments.folder_of(root, pair, python, "stock")
    )
    removed = ("AIRFLOW", "PYTHON")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(removed)}

    def call(program: Path, *arguments: str, **variables: str) -> str:
        own = {"AIRFLOW_HOME": str(tmp_path / "home"), **variables}
        return run([environment.python, program, *arguments], env={**inherited, **own}, timeout=300)

    return call


@pytest.mark.airflow
def test_adds_users_with_roles_of_first_user(in_airflow: Program, tmp_path: Path) -> None:
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
    in_airflow(users.ADD, "1001", "1002", AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{tmp_path}/a.db")
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


@pytest.mark.airflow
def test_counts_queries_on_fab_tables_and_on_the_loop(in_airflow: Program, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WATCHED)
    metadata = f"sqlite:///{tmp_path}/a.db"
    printed = in_airflow(
        program, str(PROBES), str(tmp_path / "b.db"), AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=metadata
    )
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


@pytest.mark.airflow
def test_airflow_starts_with_pure_python_mysql_driver(in_airflow: Program, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(DRIVER)
    address = "mysql+{}://airflow:x@127.0.0.1:1/airflow?charset=utf8mb4"
    printed = in_airflow(
        program,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=address.format("pymysql"),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=address.format("aiomysql"),
        **mariadb.MariaDB.variables,
    )
    assert "RESULT pymysql escape_datetime" in printed
