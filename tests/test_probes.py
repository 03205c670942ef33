"""The data of the probes, and the locks that they hold in the database of a server."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from airflow_auth_patches.contribute import probes as running
from airflow_auth_patches.demo.faults import ServerDatabase
from airflow_auth_patches.series import probes
from airflow_auth_patches.series.probes import Probe
from airflow_auth_patches.util.errors import Problem


def test_every_kind_has_a_function():
    assert tuple(running.RUN) == probes.KINDS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "locked"', "a needs either `none` or a `kind`"),
        ('kind = "token-race"\nnone = "why"', "a needs either `none` or a `kind`"),
        ("", "a needs either `none` or a `kind`"),
        ('kind = "full-pool"\ntable = "t"', "a needs `table` and `request`"),
        ('none = "why"\nother = 1', "unexpected keyword argument 'other'"),
    ],
)
def test_refuses_wrong_data(tmp_path: Path, text: str, said: str):
    (tmp_path / probes.FILE).write_text(f"[a]\n{text}\n")
    with pytest.raises(Problem, match=re.escape(said)):
        probes.load(tmp_path)


def test_interpreter_without_airflow_cannot_use_the_database():
    with pytest.raises(Problem, match="The probes cannot use the database of the server"):
        ServerDatabase([sys.executable], 1)


def test_probe_that_no_request_waits_for_shows_nothing():
    lock = running.Held(most=0, seconds=5.0)
    with pytest.raises(Problem, match="No request waited for the locked table ab_user") as told:
        running.needed(
            lock, Probe("locked-table", table="ab_user", settings={"AIRFLOW__FAB__CACHE_TTL": "0"})
        )
    assert told.value.remedy == "Start the server with AIRFLOW__FAB__CACHE_TTL=0."
    running.needed(running.Held(most=1), Probe("locked-table", table="ab_user"))
