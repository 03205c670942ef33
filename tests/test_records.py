"""Every file of an installation is verified: modules, scripts, dist-info, and modules of nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import installed, records
from airflow_auth_patches.installation.status import status
from airflow_auth_patches.series import series
from airflow_auth_patches.util.errors import Problem

INFO = "apache_airflow_core-3.1.6.dist-info"


def write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def core_state(small) -> tuple[str, tuple[str, ...]]:
    row = status(small.python, series.load(small.folder), small.pins).rows[0]
    return row.state, row.notes


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("../../../bin/airflow", "", "bin/airflow is changed"),
        ("../../../bin/airflow", None, "bin/airflow is missing"),
        (f"{INFO}/METADATA", "Name: apache-airflow-core\nVersion: 3.1.6\n", f"{INFO}/METADATA is changed"),
        (f"{INFO}/entry_points.txt", "[console_scripts]\n", f"{INFO}/entry_points.txt is changed"),
        (f"{INFO}/entry_points.txt", None, f"{INFO}/entry_points.txt is missing"),
        ("airflow/settings/__init__.py", "", "airflow/settings/__init__.py belongs to no installed package"),
        ("airflow/settings.so", "", "airflow/settings.so belongs to no installed package"),
        ("airflow/settings.pyc", "", "airflow/settings.pyc belongs to no installed package"),
    ],
)
def test_changed_missing_and_extra_file_is_reported(small, path, text, said):
    file = small.site / path
    if text is None:
        file.unlink()
    else:
        write(file, text)
    state, notes = core_state(small)
    assert state == "changed"
    assert notes[0].endswith(said)
    if "belongs" not in said:
        with pytest.raises(Problem, match=Path(path).name):
            patching.plan(small.python, series.load(small.folder), small.pins)


def test_command_without_a_script_is_reported(small):
    record = small.site / INFO / "RECORD"
    lines = [line for line in record.read_text().splitlines() if "bin/airflow" not in line]
    write(record, "\n".join(lines) + "\n")
    assert core_state(small) == ("changed", ("the command airflow is missing",))


def test_modules_of_other_packages_and_compiled_ones_are_no_extra_modules(small):
    write(small.site / "airflow/sdk/__init__.py", "")
    write(small.site / "apache_airflow_task_sdk-1.1.dist-info/RECORD", "airflow/sdk/__init__.py,,\n")
    write(small.site / "airflow/__pycache__/other.cpython-311.pyc", "")
    write(small.site / "airflow/providers/mine.py", "")
    write(small.site / "airflow/notes.txt", "")
    found = installed.look(small.python, small.pins).found
    assert [records.extra_modules(each) for each in found] == [[], []]
    assert [records.changed_files(each) for each in found] == [[], []]


def test_extra_module_of_the_provider_is_its_own(small):
    write(small.site / "airflow/providers/fab/extra.py", "")
    found = installed.look(small.python, small.pins).found
    assert [records.extra_modules(each) for each in found] == [[], ["airflow/providers/fab/extra.py"]]


def test_installation_without_a_script_is_undone(small):
    """An installer that writes no script has not installed the release."""
    start = small.site / "pip/__main__.py"
    content = start.read_text()
    write(
        start,
        "import atexit, pathlib\n"
        "mark = pathlib.Path(__file__).parent / 'called'\n"
        "script = pathlib.Path(__file__).parents[4] / 'bin/airflow'\n"
        "if not mark.exists():\n"
        "    mark.touch()\n"
        f"    atexit.register(script.unlink)\n{content}",
    )
    with pytest.raises(Problem, match=r"bin/airflow is missing\. .*restored"):
        patching.apply(small.plan(), small.pins)
    assert small.versions == ["3.1.6", "3.3.0"]
