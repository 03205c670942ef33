"""
SIGKILL the tool, pip or uv, or both, at moments spread over an installation.

Afterwards Airflow imports and no file is changed, or the damage is reported and `repair` cures it. With
`KILLS=docs/results/kills.json`, the counts are recorded for docs/operators.md.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from airflow_auth_patches.installation import installed, records
from airflow_auth_patches.installation.repair import repair
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run

pytestmark = pytest.mark.airflow
TOOL = Path(sys.executable).parent / "airflow-auth-patches"

#: Counts the changes of files below an environment in this process, and kills at one of them, once.
#: `KILL` names the environment, who is killed, and the number of the change, 0 for none.
HOOK = """
import atexit, json, os, sys
told = json.loads(os.environ.get("KILL", "null"))
count = 0

def changes(event, arguments):
    if event == "open":
        mode, flags = arguments[1] or "", arguments[2] or 0
        return bool(set("wax+") & set(mode)) or flags & 3
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or event.startswith("shutil.")

def hook(event, arguments):
    global count
    if not (event == "open" or event.startswith(("os.", "shutil."))) or not changes(event, arguments):
        return
    paths = [str(each) for each in arguments[:2]]
    if event in ("os.remove", "os.mkdir", "os.rmdir") and arguments[-1] >= 0:  # below an open folder
        paths = [os.path.join(os.readlink(f"/proc/self/fd/{arguments[-1]}"), arguments[0])]
    if not any(path.startswith(told["env"]) and "sitecustomize" not in path for path in paths):
        return
    count += 1
    if count == told["at"] and not os.path.exists(told["mark"]):
        os.close(os.open(told["mark"], os.O_CREAT | os.O_WRONLY))
        if told["both"]:
            os.kill(os.getppid(), 9)
        os.kill(os.getpid(), 9)

def write():
    with open(told["counts"], "a") as file:
        file.write(f"{count}\\n")

if told and told["who"] == ("pip" if "pip" in sys.orig_argv else "tool"):
    sys.addaudithook(hook)
    atexit.register(write)
"""
IMPORTS = "import importlib; [importlib.import_module(name) for name in {!r}]"
MODULES = ["airflow", "airflow.settings", "airflow.api.app", "airflow.providers.fab.settings"]
STOCK, LABEL = ["3.1.6", "3.3.0"], "+authpatches.2"


def apply(small, who: str, at: int) -> tuple[int, int]:
    """Apply the plan of small releases, killed as in `run_killed`."""
    return run_killed(small.python, small.apply_command, who, at)


def run_killed(python: Path, words: Sequence[str | Path], who: str, at: int) -> tuple[int, int]:
    """Run a program, killed at a change of a file; return its exit code and the number of changes."""
    folder = python.parents[2]
    (own,) = python.parents[1].glob("lib/*/site-packages")
    (folder / "hook").mkdir(exist_ok=True)
    for site in (own, folder / "hook"):
        (site / "sitecustomize.py").write_text(HOOK)
    told = {
        "env": f"{folder / 'env'}",
        "who": "tool" if who == "tool" else "pip",
        "both": who == "both",
        "at": at,
    }
    told |= {"mark": f"{folder / 'mark'}", "counts": f"{folder / 'counts'}"}
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([f"{folder / 'hook'}", *sys.path]),
        "KILL": json.dumps(told),
    }
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env, timeout=300)
    assert at == 0 or (folder / "mark").exists(), done.stderr
    counts = (folder / "counts").read_text().split() if (folder / "counts").exists() else ["0"]
    (own / "sitecustomize.py").unlink()
    return done.returncode, max(map(int, counts))  # the tool also runs programs that change nothing


def check(small) -> str:
    """Check what a killed `apply` left, and return it: `stock`, `patched` or `repaired`."""
    damaged = installed.look(small.python, small.pins, damaged=True).damage
    if damaged:
        with pytest.raises(Problem) as refused:
            installed.look(small.python, small.pins)
        assert refused.value.exit_code is Exit.DAMAGED
        repair(small.python, small.pins)
    else:  # a kill before the journal was written, or after it was removed, leaves its folder
        shutil.rmtree(small.site / ".airflow-auth-patches", ignore_errors=True)
    versions = small.versions
    assert versions in ([STOCK] if damaged else [STOCK, [each + LABEL for each in STOCK]])
    left = "repaired" if damaged else "stock" if versions == STOCK else "patched"
    run([small.python, "-I", "-c", IMPORTS.format(MODULES)])
    return left


def moments(count: int, total: int, who: Sequence[str] = ("tool", "pip", "both")) -> list[tuple[str, int]]:
    """Return moments spread from 0 to a total, each with who is killed."""
    return [(who[number % len(who)], round((number + 0.5) * total / count)) for number in range(count)]


@pytest.fixture(scope="module")
def left() -> Iterator[dict[tuple[str, str], Counter[str]]]:
    """Count what is left after the kills, by installer and by who was killed."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    yield counts
    if file := os.environ.get("KILLS"):
        rows = [{"installer": each[0], "killed": each[1], **counts[each]} for each in sorted(counts)]
        Path(file).write_text(json.dumps(rows, indent=2) + "\n")


@pytest.fixture(scope="module")
def changes() -> dict[str, int]:
    """Return the number of changes of files that the tool and pip make, by who makes them."""
    return {}


@pytest.mark.operator_task(8, "Lose power during `apply`", "`apply`, `status`, `repair`")
@pytest.mark.parametrize(
    ("who", "part"),
    [
        *moments(9, 1000),
        *(pytest.param(who, part, marks=pytest.mark.slow) for who, part in moments(91, 1000)),
    ],
)
def test_killed_apply_leaves_a_working_or_a_repairable_airflow(small, copies, changes, who, part, left):
    by = "tool" if who == "tool" else "pip"
    if by not in changes:
        code, changes[by] = apply(copies(), by, 0)
        assert (code, changes[by] > 30) == (0, True)
    code, _ = apply(small, who, max(1, round(changes[by] * part / 1000)))
    # A killed pip is a failure of pip, which the tool undoes.
    assert code == (1 if who == "pip" else -9)
    state = check(small)
    left["pip", who][state] += 1
    assert who != "pip" or state == "stock"


def apply_with_uv(small, who: str, at: int) -> tuple[int, int]:
    """Apply the plan with uv, as `apply` does with pip."""
    words = [sys.executable, Path(__file__).with_name("traced.py"), small.python.parents[1], str(at), who]
    env = {**os.environ, "UV_CACHE_DIR": str(small.python.parents[2] / "uv-cache")}
    done = subprocess.run(
        [*words, *small.apply_command], capture_output=True, text=True, check=False, env=env, timeout=300
    )
    return done.returncode, int(done.stdout.splitlines()[-1])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="traced.py knows the system calls of x86-64 only")
@pytest.mark.parametrize(
    ("who", "part"),
    [
        *moments(6, 1000, ("uv", "both")),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in moments(34, 1000, ("uv", "both"))),
    ],
)
def test_killed_uv_leaves_a_working_or_a_repairable_airflow(copies, changes, who, part, left):
    def without_pip(name: str):
        copied = copies(name)
        for path in copied.site.glob("pip*"):
            shutil.rmtree(path)
        return copied

    if "uv" not in changes:
        code, changes["uv"] = apply_with_uv(without_pip("counted"), "uv", 0)
        assert (code, changes["uv"] > 50) == (0, True)
    small = without_pip("small")
    at = max(1, round(changes["uv"] * part / 1000))
    code, count = apply_with_uv(small, who, at)
    # A killed uv is a failure of uv, which the tool undoes, with more changes.
    assert (code, count >= at) == (1 if who == "uv" else 137, True)
    state = check(small)
    left["uv", who][state] += 1
    assert who != "uv" or state == "stock"


#: pip changes some 5000 files for the real core, the tool fewer than 60.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "at"), [("both", 40), ("both", 300), ("both", 4000), ("tool", 20), ("pip", 2000)]
)
def test_killed_apply_of_real_releases_is_repaired(stock_python, pins, who, at):
    code, _ = run_killed(stock_python, [TOOL, "apply", "--python", stock_python], who, at)
    assert code == (Exit.FAILED if who == "pip" else -9)
    damaged = installed.look(stock_python, pins, damaged=True).damage
    assert who == "tool" or bool(damaged) is (who == "both")
    if damaged:
        status = subprocess.run([TOOL, "status", "--python", stock_python], capture_output=True, check=False)
        assert status.returncode == Exit.DAMAGED
        cured = subprocess.run([TOOL, "repair", "--python", stock_python], capture_output=True, check=False)
        assert cured.returncode == 0
    found = installed.look(stock_python, pins).found
    assert [each.version for each in found] == STOCK
    assert [line for each in found for line in records.changed_files(each)] == []
    assert [path for each in found for path in records.extra_modules(each)] == []


def test_status_accepts_what_a_kill_before_the_journal_leaves(small):
    """The first changes of the tool are in the folder of the journal."""
    apply(small, "tool", 8)
    assert (small.site / ".airflow-auth-patches").is_dir()
    assert not (small.site / ".airflow-auth-patches/journal.json").exists()
    installed.look(small.python, small.pins)
    code, _ = apply(small, "tool", 0)
    assert code == 0
    assert small.versions == [each + LABEL for each in STOCK]
