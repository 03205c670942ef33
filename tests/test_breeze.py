"""The Breeze scripts: the commands that they print and run."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from airflow_auth_patches.contribute import breeze
from airflow_auth_patches.installation import running
from airflow_auth_patches.util.errors import Problem

CORE_FILE = "airflow-core/src/airflow/api_fastapi/app.py"
FAB_FILE = "providers/fab/src/airflow/providers/fab/www/app.py"
SHARED = "shared/logging/src/airflow_shared/logging/a.py"


BREEZE = """\
if [ "$2" = --help ]; then
    echo "$PWD $1: --backend --postgres-version --auth-manager --executor --mount-sources"
    exit
fi"""


def options(text: str) -> dict[str, str | None]:
    """Return the flags of a `breeze start-airflow` command and their values."""
    words = shlex.split(text.splitlines()[-1])
    assert words[:2] == ["breeze", "start-airflow"]
    following = [*words[3:], "--"]
    pairs = zip(words[2:], following, strict=True)
    return {flag: None if value.startswith("--") else value for flag, value in pairs if flag.startswith("--")}


@pytest.mark.parametrize("script", ["apply-to-checkout", "start-fab", "verify", "stop"])
def test_every_script_has_help_with_an_example(shell, script):
    done = shell(script, "--help", COLUMNS="200")
    assert done.returncode == 0
    assert f"Example: breeze-scripts/{script}" in done.stdout
    assert "--dry-run" in done.stdout


def test_calls_the_tool_of_the_checkout_if_none_is_on_path(tmp_path, shell, root):
    scripts = tmp_path / "a project" / "breeze-scripts"
    shutil.copytree(root / "breeze-scripts", scripts)
    shell.root = scripts.parent
    (shell.bin / "airflow-auth-patches").unlink()
    said = shell.refuses("verify", "--help")
    assert f"neither on PATH nor in {scripts.parent}/.venv: run 'make setup'" in said
    shell.add(scripts.parent / ".venv/bin/airflow-auth-patches", 'printf "%s\\n" "$@"')
    assert shell("start-fab", "--base", "a b").stdout.splitlines() == ["breeze", "start-fab", "--base", "a b"]


@pytest.mark.parametrize(
    ("paths", "mounts", "said"),
    [
        ([CORE_FILE], "selected", "core"),
        (["airflow-core/tests/unit/test_a.py"], "selected", "core"),
        ([SHARED], "selected", "core"),
        ([CORE_FILE, FAB_FILE], "selected", "core and the provider"),
        ([FAB_FILE], "providers-and-tests", "the provider"),
        (["providers/fab/tests/unit/fab/test_a.py", "dev/a.py"], "providers-and-tests", "the provider"),
    ],
)
def test_mounts_what_a_branch_changed(airflow, pins, paths, mounts, said):
    airflow.branch("topic", *paths)
    step = breeze.start(pins, airflow.folder / "dev", {"--backend": "mysql", "--mysql-version": None})
    released = None if mounts == "selected" else "3.3.2"
    told = {"--backend": "mysql", "--mount-sources": mounts, "--use-airflow-version": released}
    assert options(shlex.join(step.words)) == {flag: value for flag, value in told.items() if value}
    assert step.folder == airflow.folder
    assert f"topic changed {said} since refs/heads/main" in step.notes[0]


def test_a_dry_run_prints_the_command_and_those_of_upstream(shell, airflow):
    airflow.branch("topic", CORE_FILE)
    done = shell("start-fab", "--dry-run", airflow.folder, "--backend", "mysql", "--backend-version", "8.4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"cd {airflow.folder}"
    assert options(done.stdout) == {
        "--backend": "mysql",
        "--mysql-version": "8.4",
        "--auth-manager": "FabAuthManager",
        "--executor": "LocalExecutor",
        "--mount-sources": "selected",
    }
    common = "breeze start-airflow {}--auth-manager FabAuthManager\n"
    for words in ("", "--mount-sources providers-and-tests "):
        assert f": {common.format(words)}" in done.stderr


def test_options_choose_the_distribution_and_the_flags(shell, airflow):
    airflow.branch("topic", CORE_FILE)
    flags = ("--db-reset", "--load-example-dags", "--load-default-connections")
    pairs = {
        "--backend": "sqlite",
        "--use-airflow-version": "3.2.2",
        "--auth-manager": "SimpleAuthManager",
        "--executor": "CeleryExecutor",
        "--answer": "y",
        "--terminal-multiplexer": "tmux",
    }
    words = [word for pair in pairs.items() for word in pair]
    done = shell("start-fab", "--dry-run", "--provider", airflow.folder, *words, *flags)
    mounts = {"--mount-sources": "providers-and-tests"}
    assert options(done.stdout) == {**pairs, **mounts, **dict.fromkeys(flags)}
    said = shell.refuses("start-fab", "--dry-run", "--core", "--use-airflow-version", "3.2.2", airflow.folder)
    assert "patches of core are not loaded" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "topic changed neither core nor the FAB provider since refs/heads/main"),
        (("--branch", "main"), "switch main"),
    ],
)
def test_refuses_a_branch_without_changes_or_not_checked_out(shell, airflow, words, said):
    airflow.branch("topic", "dev/a.py")
    assert said in shell.refuses("start-fab", "--dry-run", *words, airflow.folder)


@pytest.mark.parametrize("script", ["apply-to-checkout", "start-fab", "stop"])
def test_refuses_a_folder_that_is_no_checkout_of_airflow(shell, tmp_path, script):
    (tmp_path / "other").mkdir()
    for place, said in (("nowhere", "is not a folder"), ("other", "is not a checkout of Airflow")):
        told = shell.refuses(script, "--dry-run", tmp_path / place, GIT_CEILING_DIRECTORIES=str(tmp_path))
        assert f"{tmp_path / place} {said}" in told


def test_refuses_flags_that_breeze_of_the_checkout_does_not_list(shell, airflow):
    airflow.branch("topic", CORE_FILE)
    shell.add("docker", "exit 0")
    shell.add("breeze", BREEZE.replace("--executor ", ""))
    said = shell.refuses("start-fab", airflow.folder)
    assert f"`breeze start-airflow --help` in {airflow.folder} does not list --executor." in said
    assert f"uv tool install -e {airflow.folder}/dev/breeze" in said
    airflow.write({"scripts/tools/setup_breeze": ""})
    assert f"{airflow.folder}/scripts/tools/setup_breeze" in shell.refuses("start-fab", airflow.folder)


@pytest.mark.parametrize("script", ["start-fab", "stop"])
def test_names_a_missing_program_and_runs_nothing(shell, airflow, script):
    airflow.branch("topic", CORE_FILE)
    assert "breeze was not found. Install it" in shell.refuses(script, airflow.folder)
    shell.add("breeze", BREEZE)
    assert "docker was not found. Install Docker" in shell.refuses(script, airflow.folder)
    shell.add("docker", "echo starting >&2; echo 'no daemon there' >&2; exit 1")
    assert "Docker does not respond: no daemon there" in shell.refuses(script, airflow.folder, code=6)


@pytest.mark.parametrize(
    ("script", "ran"), [("start-fab", "start-airflow --backend postgres --auth-manager"), ("stop", "down")]
)
def test_runs_the_command_in_the_checkout(shell, airflow, tmp_path, script, ran):
    airflow.branch("topic", CORE_FILE)
    shell.add("docker", "exit 0")
    shell.add("breeze", f'{BREEZE}\npwd > {tmp_path}/told; echo "$@" >> {tmp_path}/told; exit 9')
    done = shell(script, airflow.folder / "dev")
    assert done.returncode == 9
    folder, words = (tmp_path / "told").read_text().splitlines()
    assert folder == str(airflow.folder)
    assert words.startswith(ran)
    assert done.stdout.splitlines() == [f"cd {airflow.folder}", f"breeze {words}"]
    (tmp_path / "told").unlink()
    assert shell(script, "--dry-run", airflow.folder).stdout == done.stdout
    assert not (tmp_path / "told").exists()


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ("apache-airflow-core==3.2.1", ()),
        ("apache-airflow-providers-fab==3.10.2", ("--patch", "user-cache")),
        ("apache-airflow-core==3.3.2", ("--release", "apache-airflow-core==3.3.2", "--skip-conflicts")),
    ],
)
def test_applies_the_patches_in_the_form_that_fits_the_checkout(shell, airflow, release, words):
    author = "A Sender <sender@example.org>"
    named = ("--branch", "topic", "--author", author)
    done = shell("apply-to-checkout", "--dry-run", *words, airflow.folder, *named)
    assert done.returncode == 0, done.stderr
    tool, *told = shlex.split(done.stdout)
    assert Path(tool).name == "airflow-auth-patches"
    rest = [word for word in words if word != "--release" and "==" not in word]
    patches, skip = (rest, []) if "--patch" in rest else ([], rest)
    expected = ["--release", release, *patches, "--checkout", str(airflow.folder), *skip, *named]
    assert told == ["export", *expected]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("user-cache", "request-session"), "need separate branches and pull requests"),
        (("nonsense",), "no patch 'nonsense'"),
    ],
)
def test_refuses_patches_of_both_distributions_and_unknown_ones(shell, airflow, names, said):
    words = [word for name in names for word in ("--patch", name)]
    assert said in shell.refuses("apply-to-checkout", "--dry-run", *words, airflow.folder)


def test_applying_ends_with_the_exit_code_of_the_export(shell, airflow):
    airflow.git("branch", "topic")
    words = (
        "--patch",
        "pool-slots-session",
        "--author",
        "A Sender <sender@example.org>",
        "--branch",
        "topic",
    )
    assert "already has the branch topic" in shell.refuses(
        "apply-to-checkout", airflow.folder, *words, code=3
    )


def test_the_container_of_a_port_is_found(shell, monkeypatch):
    monkeypatch.setenv("PATH", str(shell.bin))
    with pytest.raises(Problem, match="docker was not found"):
        running.published(28080)
    shell.add("docker", "echo no daemon >&2; exit 1")
    with pytest.raises(Problem, match="Docker does not respond: no daemon"):
        running.published(28080)
    shell.add(
        "docker",
        'printf "%s\\n" "one 0.0.0.0:28080->8080/tcp, [::]:28080->8080/tcp" "two [::]:28080->81/tcp"',
    )
    assert running.published(28080, "python").port == 8080
    assert running.published(28080, "python3", "two").words(["a"]) == [
        *("docker", "exec", "-i", "two", "python3", "-", "81", "a")
    ]
    with pytest.raises(Problem, match="No container publishes port 8080"):
        running.published(8080)
    with pytest.raises(Problem, match="three does not publish port 28080"):
        running.published(28080, container="three")
