"""The output and the exit codes of the command line."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from airflow_auth_patches.cli import app, main
from airflow_auth_patches.cli.common import interpreter
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.util.errors import Exit

TOOL = Path(sys.executable).parent / "airflow-auth-patches"
#: All commands; `breeze` is a group of others.
COMMANDS = sorted({*typer.main.get_command(app).commands} - {"breeze"})
TWO_PAIRS = ("--pair", "3.3.2+3.10.2", "--pair", "3.2.0+3.6.0")


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False, timeout=300)


def test_help_names_every_command_and_the_exit_codes_operators_first():
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"})
    assert done.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in done.stdout
    assert "Exit codes" in done.stdout
    assert "129, 130, 143 interrupted" in " ".join(done.stdout.replace("│", " ").split())
    heads = re.findall(r"(?m)^╭─ (\w+)", done.stdout)
    assert heads == ["Options", "Operators", "Engineers", "Authors", "Contributors"]


def with_subcommands(command: object, *words: str) -> Iterator[tuple[str, ...]]:
    """Return the words of a command, and of each command below it."""
    yield words
    for name, each in getattr(command, "commands", {}).items():
        yield from with_subcommands(each, *words, name)


@pytest.mark.parametrize("words", list(with_subcommands(typer.main.get_command(app))), ids=" ".join)
def test_help_of_every_command_has_an_example(words):
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    command = "breeze-scripts/" if words[:1] == ("breeze",) else "airflow-auth-patches "
    assert f"Example: {command}{' '.join(words).removeprefix('breeze').strip()}" in " ".join(
        done.stdout.split()
    )


def test_shell_completes_the_name_of_a_command():
    words = {"COMP_WORDS": "airflow-auth-patches stat", "COMP_CWORD": "1"}
    env = {**os.environ, "_AIRFLOW_AUTH_PATCHES_COMPLETE": "complete_bash", **words}
    done = subprocess.run([TOOL], capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stdout.split()) == (0, ["status"])


@pytest.fixture(scope="module")
def wheel_of_core(pins) -> Path:
    return fetching.fetch(pins.release("apache-airflow-core==3.1.6"), "wheel")


@pytest.mark.operator_task(11, "Patch a machine without a network", "`fetch`, `wheel`")
def test_fetched_release_needs_no_network_afterwards(wheel_of_core, index, tmp_path, monkeypatch):
    name = wheel_of_core.name
    (index / name).symlink_to(wheel_of_core)
    (index / "index.html").write_text(f'<html><body><a href="{name}">{name}</a></body></html>')
    done = tool("fetch", "--release", "apache-airflow-core==3.1.6")
    assert done.stdout.splitlines() == [str(tmp_path / "cache" / name)], done.stderr
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    words = ["wheel", "--release", "apache-airflow-core==3.1.6", "--output", tmp_path / "dist"]
    assert tool(*words).returncode == 0
    refused = tool("fetch", "--pair", "3.1.6+3.3.0")
    assert refused.returncode == Exit.UNREACHABLE


def test_list_has_every_patch_bug_and_release(project, pins):
    assert tool("list").returncode == 0
    listed = json.loads(tool("list", "--json").stdout)
    assert [row["patch"] for row in listed["patches"]] == [patch.name for patch in project.patches]
    assert {row["bug"] for row in listed["bugs"]} == set(project.bugs)
    assert all(row["cured_by"] or row["known_open"] for row in listed["bugs"])
    rows = json.loads(tool("list", "--releases", "--json").stdout)
    assert [row["release"] for row in rows] == [str(release) for release in pins.releases]
    assert {patch for row in rows for patch in row["patches"]} == {patch.name for patch in project.patches}


def test_wheel_is_named_with_the_label(tmp_path):
    done = tool("wheel", "--release", "apache-airflow-core==3.1.8", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    names = [path.name for path in tmp_path.iterdir()]
    assert names == ["apache_airflow_core-3.1.8+authpatches.2-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("wheel", "--release", "apache-airflow-core==1.0"), Exit.USAGE, "is not pinned"),
        (("wheel", "--release", "flask==3.0"), Exit.USAGE, "not a distribution of this series"),
        (("wheel",), Exit.USAGE, "--release, --python and --pair"),
        (("fetch",), Exit.USAGE, "missing, or given twice"),
        (("fetch", "--pair", "3.1.6"), Exit.USAGE, "is not a release"),
        (("fetch", "--python", "python3"), Exit.REFUSED, "has no Airflow"),
        (("apply",), Exit.USAGE, "--python is missing"),
        (
            ("wheel", "--release", "apache-airflow-core==3.3.2", "--patch", "users-route"),
            Exit.REFUSED,
            "named",
        ),
        (("apply", "--python", "nowhere/python"), Exit.USAGE, "is not an interpreter"),
        (("apply", "--python", sys.executable), Exit.REFUSED, "has no Airflow"),
        (("wheel", "--python", "python3"), Exit.REFUSED, "has no Airflow"),  # found on PATH
        (("plugin", "--python", "python3"), Exit.REFUSED, "has no Airflow"),
        (("apply", "--python", sys.executable, "--all", "--patch", "x"), Exit.USAGE, "cannot be combined"),
        (("status", "--python", "/bin/true"), Exit.USAGE, "does not run as a Python"),
        (("revert", "--python", sys.executable), Exit.REFUSED, "has no Airflow"),
        (("tree", "apache-airflow-core"), Exit.USAGE, "is not a release"),
        (("add-release", "apache-airflow-core"), Exit.USAGE, "is not a release"),
        (("add-release", "apache-airflow-core==x.y"), Exit.USAGE, "is not a release"),
        (("add-release", "flask==3.0.0"), Exit.USAGE, "not a distribution of this series"),
        (("add-release", "apache-airflow-core==3.4.0.dev1"), Exit.USAGE, "is not a release"),
        (("add-release", "apache-airflow-core==3.4.0b1"), Exit.REFUSED, "a pre-release, and not the newest"),
        (("add-release", "apache-airflow-core==3.3.2"), Exit.REFUSED, "already pinned"),
        (("add-release", "apache-airflow-core==3.0.6"), Exit.REFUSED, "out of scope"),
        (("add-release", "apache-airflow-core==3.1.4"), Exit.REFUSED, "was yanked"),
        (("add-release", "apache-airflow-core==9.9.9"), Exit.UNREACHABLE, "has no apache_airflow_core-9.9.9"),
        (("prove", "--pair", "1+1"), Exit.USAGE, "not a tested pair"),
        (("prove", "--patch", "nonsense"), Exit.USAGE, "no patch 'nonsense'"),
        (("prove", "--pair", "3.3.2+3.10.2", "--patch", "session-cleanup"), Exit.USAGE, "serves none of"),
        (("prove", "--pair", "3.1.6+3.3.0", "--python", "3.13"), Exit.USAGE, "does not support Python 3.13"),
        (("judge", "apache-airflow-core==3.3.2", "--python", "3.9"), Exit.USAGE, "not support Python 3.9"),
        (("demo", "--only", "nonsense"), Exit.USAGE, "nonsense"),
        (("test-upstream", "--only", "models"), Exit.USAGE, "Name a checkout with --checkout."),
        (("test-upstream", "--at", "3.2.0"), Exit.USAGE, "Name a checkout with --checkout."),
        (("test-upstream", "--checkout", "."), Exit.USAGE, "Name it with --pair."),
        (("test-upstream", "--checkout", ".", *TWO_PAIRS), Exit.USAGE, "Name it with --pair."),
        (("nonsense",), Exit.USAGE, "nonsense"),
        (("list", "--releases", "--matrix"), Exit.USAGE, "cannot be combined"),
        (("list", "--nonsense"), Exit.USAGE, "nonsense"),
    ],
)
def test_wrong_input_has_one_sentence_and_a_documented_exit_code(
    arguments, code, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["airflow-auth-patches", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("list", "--releases", "--matrix"), "--releases and --matrix cannot be combined."),
        (("add-release", "apache-airflow-core==3.3.2"), "apache-airflow-core 3.3.2 is already pinned."),
    ],
)
def test_error_of_a_command_with_json_is_json_too(arguments, what, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["airflow-auth-patches", *arguments, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["error"]["what"], told["error"]["exit_code"]) == (1, what, ended.value.code)


ON_A_TERMINAL = """
import os, signal, sys
from airflow_auth_patches import cli

def app():
    print("running", flush=True)
    if sys.argv[1] == "wait":
        signal.pause()
    os.kill(os.getpid(), signal.SIGHUP)

cli.app = app
cli.main()
"""


@pytest.mark.parametrize(
    ("word", "before", "code"),
    [("wait", signal.SIG_DFL, 128 + signal.SIGHUP), ("go on", signal.SIG_IGN, 0)],
)
def test_closed_terminal_interrupts_unless_hangup_is_ignored(word, before, code):
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, before)

    ends = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": theirs, "preexec_fn": take_terminal}
    words = [sys.executable, "-c", ON_A_TERMINAL, word]
    with subprocess.Popen(words, start_new_session=True, **ends) as process:
        os.close(theirs)
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        os.close(ours)
        assert process.wait(30) == code


def test_check_finds_no_fault_in_the_project():
    done = tool("check", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == []


def test_interpreter_with_a_folder_is_not_searched_on_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, target in (("here/python", "x"), ("bin/python", "y")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / target).touch(mode=0o755)
        (tmp_path / name).symlink_to(tmp_path / target)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path / "here")
    assert interpreter("./python") == tmp_path / "here/python"
    assert interpreter("../here/python") == tmp_path / "here/../here/python"
    assert interpreter("python") == tmp_path / "bin/python"
    assert interpreter("python3") == tmp_path / "here/python3"


def test_version_is_printed():
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert re.fullmatch(r"airflow-auth-patches \d+\.\d+\.\d+\n", done.stdout)
