"""An environment is inspected as a server sees it."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

from airflow_auth_patches.installation import installed
from airflow_auth_patches.util.errors import Exit, Problem


def package(folder: Path) -> str:
    """Write a package `airflow` into a folder, and return the folder."""
    (folder / "airflow").mkdir(parents=True)
    (folder / "airflow/__init__.py").touch()
    return str(folder)


def refused(small, said: str) -> None:
    with pytest.raises(Problem, match=said) as raised:
        installed.look(small.python, small.pins)
    assert raised.value.exit_code is Exit.REFUSED


def test_airflow_on_pythonpath_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", package(tmp_path / "shadow"))
    refused(small, f"imports Airflow from {tmp_path}/shadow/airflow/__init__.py, not from {small.site}")


def test_airflow_of_a_pth_file_is_refused(small, tmp_path):
    (small.site / "shadow.pth").write_text(
        f"import sys; sys.path.insert(0, {package(tmp_path / 'shadow')!r})\n"
    )
    refused(small, "imports Airflow from")


def test_airflow_of_the_user_is_refused_where_it_is_imported(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    names = {"userbase": str(tmp_path / "user")}
    package(Path(sysconfig.get_path("purelib", "posix_user", names)))
    assert installed.look(small.python, small.pins)  # a virtual environment does not use it
    config = small.python.parents[1] / "pyvenv.cfg"
    text = config.read_text()
    config.unlink()
    config.write_text(text.replace("packages = false", "packages = true"))
    refused(small, "imports Airflow from")


def test_airflow_of_another_environment_is_refused(small, copies):
    other = copies("other")
    for path in (*small.site.glob("apache_airflow*"), small.site / "airflow"):
        path.rename(path.with_name(f"removed-{path.name}.txt"))
    (small.site / "base.pth").write_text(f"{other.site}\n")
    refused(small, f"is in {other.site}.*, outside the environment of {small.python}")


def test_folder_without_a_package_on_pythonpath_is_no_airflow(small, tmp_path, monkeypatch):
    (tmp_path / "dags/airflow").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "dags"))
    assert len(installed.look(small.python, small.pins).found) == 2


@pytest.mark.parametrize(
    ("told", "editable"),
    [
        ({"url": "file:///srv/editable/core.whl", "archive_info": {}}, False),
        ({"url": "file:///srv/core", "dir_info": {"editable": True}}, True),
        ({"url": "file:///srv/core", "dir_info": {"editable": False}}, False),
        ([], False),
    ],
)
def test_editable_installation_is_known_by_its_flag(small, told, editable):
    (info,) = small.site.glob("apache_airflow_core-*.dist-info")
    (info / "direct_url.json").write_text(json.dumps(told))
    assert installed.look(small.python, small.pins).found[0].editable is editable


def test_output_of_a_sitecustomize_is_ignored(small):
    text = "import atexit; print('{}'); atexit.register(print, 'airflow-auth-patches')\n"
    (small.site / "sitecustomize.py").write_text(text)
    assert len(installed.look(small.python, small.pins).found) == 2
