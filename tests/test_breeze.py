"""The breeze scripts: what they print, what they run, and the proof of what a process runs."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

from airflow_auth_patches.contribute import branch, breeze, verify
from airflow_auth_patches.contribute import breeze_server as command
from airflow_auth_patches.contribute.breeze import Wish, start_line
from airflow_auth_patches.contribute.expected import Subject, expect
from airflow_auth_patches.demo import running
from airflow_auth_patches.demo.listening import blob
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run
from airflow_auth_patches.util.progress import Silent

#: What `breeze start-airflow` takes, as upstream's conventions have it; `None` where no value follows.
ALLOWED: dict[str, set[str] | None] = {
    "--backend": {"sqlite", "mysql", "postgres"},
    "--postgres-version": {"13", "14", "15", "16", "17", "18"},
    "--mysql-version": {"8.0", "8.4"},
    "--auth-manager": {"SimpleAuthManager", "FabAuthManager"},
    "--executor": {"LocalExecutor", "CeleryExecutor", "EdgeExecutor"},
    "--mount-sources": {"selected", "all", "skip", "remove", "tests", "providers-and-tests"},
    "--use-airflow-version": {"3.3.2", "3.2.2"},
    "--load-default-connections": None,
    "--load-example-dags": None,
    "--db-reset": None,
    "--answer": {"y"},
    "--terminal-multiplexer": {"mprocs", "tmux"},
}
VERSIONS = {
    "sqlite": [None],
    "mysql": [None, "8.0", "8.4"],
    "postgres": [None, "13", "14", "15", "16", "17", "18"],
}
MAINTAINERS = "breeze start-airflow --mount-sources providers-and-tests --auth-manager FabAuthManager"
AUTHORS = "breeze start-airflow --auth-manager FabAuthManager"
#: A file that a patch of core edits, and one of the provider.
CORE_FILE = "airflow-core/src/airflow/api_fastapi/app.py"
FAB_FILE = "providers/fab/src/airflow/providers/fab/www/app.py"


def options(words: list[str]) -> dict[str, str | None]:
    """Read a `breeze start-airflow` command, and fail at what is not allowed in it."""
    assert words[:2] == ["breeze", "start-airflow"]
    found: dict[str, str | None] = {}
    rest = iter(words[2:])
    for flag in rest:
        values = ALLOWED[flag]
        found[flag] = None if values is None else next(rest)
        assert values is None or found[flag] in values
    return found


# What a line is made of.


def test_the_table_of_flags_is_the_conventions() -> None:
    table = {flag: values if values is None else set(values) for flag, values in breeze.FLAGS.items()}
    assert {**table, "--use-airflow-version": ...} == {**ALLOWED, "--use-airflow-version": ...}


@pytest.mark.parametrize("core", [True, False])
@pytest.mark.parametrize("backend", VERSIONS)
def test_every_line_has_only_what_is_allowed(backend: str, core: bool) -> None:
    for version, auth, executor, switches in product(
        VERSIONS[backend],
        sorted(ALLOWED["--auth-manager"] or ()),
        sorted(ALLOWED["--executor"] or ()),
        [(), ("--db-reset", "--load-example-dags", "--load-default-connections")],
    ):
        wish = Wish(backend, version, auth, executor, "tmux", "y", switches)
        told = options(start_line(wish, core=core, airflow="3.3.2"))
        assert told["--backend"] == backend
        assert (told["--auth-manager"], told["--executor"]) == (auth, executor)
        assert {told.get("--postgres-version"), told.get("--mysql-version")} == {None, version}
        assert {"--db-reset"} & told.keys() == {"--db-reset"} & set(switches)
        mounts = ("selected", None) if core else ("providers-and-tests", "3.3.2")
        assert (told["--mount-sources"], told.get("--use-airflow-version")) == mounts


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("oracle"), "--backend cannot be 'oracle'. Use one of: sqlite, mysql, postgres."),
        (Wish("sqlite", "3"), "The backend sqlite has no versions."),
        (Wish("mysql", "17"), "--mysql-version cannot be '17'. Use one of: 8.0, 8.4."),
        (Wish("postgres", "8.4"), "--postgres-version cannot be '8.4'"),
        (Wish(auth_manager="Fab"), "--auth-manager cannot be 'Fab'"),
        (Wish(executor="SequentialExecutor"), "--executor cannot be 'SequentialExecutor'"),
        (Wish(terminal_multiplexer="screen"), "--terminal-multiplexer cannot be 'screen'"),
        (Wish(answer="n"), "--answer cannot be 'n'"),
        (Wish(switches=("--volumes",)), "has no such --volumes"),
        (Wish(switches=("--backend",)), "has no such --backend"),
    ],
)
def test_what_is_not_allowed_is_refused(wish: Wish, said: str) -> None:
    with pytest.raises(Problem) as told:
        start_line(wish, core=True, airflow="3.3.2")
    assert said in str(told.value)
    assert told.value.exit_code is Exit.USAGE


# A checkout of Airflow, and programs in the place of Breeze and Docker.


class Checkout:
    """
    A git checkout that is laid out as Airflow's.

    :ivar folder: its top.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        for path in (CORE_FILE, FAB_FILE, "shared/logging/src/airflow_shared/logging/a.py", "dev/a.py"):
            self.write(path, "stock\n")
        self.write("airflow-core/src/airflow/__init__.py", '__version__ = "3.2.1"\n')
        self.write("providers/fab/src/airflow/providers/fab/__init__.py", '__version__ = "3.11.0"\n')
        self.commit("As released")

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=A Sender", "-c", "user.email=sender@example.org")
        return run(["git", *who, *words], cwd=self.folder, env={"GIT_CONFIG_GLOBAL": os.devnull})

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self, subject: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", subject)

    def branch(self, name: str, *paths: str, start: str = "main", subject: str = "Change") -> None:
        """Make a branch that changes files, and check it out."""
        self.git("switch", "--quiet", "-c", name, start)
        for path in paths:
            self.write(path, f"changed in {name}\n")
        self.commit(subject)


@pytest.fixture
def airflow(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "airflow")


class Shell:
    """
    Runs the scripts with nothing on PATH but git, the tool and what a test adds.

    :ivar bin: the one folder on PATH.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.bin = folder
        self.root = root
        folder.mkdir()
        for name in ("git", "dirname", "uname", "cat"):
            (folder / name).symlink_to(str(shutil.which(name)))
        (folder / "airflow-auth-patches").symlink_to(Path(sys.executable).parent / "airflow-auth-patches")

    def add(self, name: str, text: str) -> None:
        program = self.bin / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    def __call__(self, script: str, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "breeze-scripts" / script, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "PATH": str(self.bin), **env},
        )


@pytest.fixture
def shell(tmp_path: Path, root: Path) -> Shell:
    return Shell(tmp_path / "bin", root)


# The scripts.


@pytest.mark.parametrize("script", ["apply-to-checkout", "start-fab", "verify", "stop"])
def test_every_script_has_help_with_an_example(shell: Shell, script: str) -> None:
    done = shell(script, "--help", COLUMNS="200")
    assert done.returncode == 0
    assert f"Example: breeze-scripts/{script}" in done.stdout
    assert "--dry-run" in done.stdout


def test_without_the_tool_on_path_that_of_the_checkout_is_taken(
    tmp_path: Path, shell: Shell, root: Path
) -> None:
    scripts = tmp_path / "a project" / "breeze-scripts"
    shutil.copytree(root / "breeze-scripts", scripts)
    shell.root = scripts.parent
    (shell.bin / "airflow-auth-patches").unlink()
    done = shell("verify", "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"neither on PATH nor in {scripts.parent}/.venv: run 'make setup'" in done.stderr
    program = scripts.parent / ".venv" / "bin" / "airflow-auth-patches"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    assert shell("start-fab", "--base", "a b").stdout.splitlines() == ["breeze", "start-fab", "--base", "a b"]


@pytest.mark.parametrize(
    ("paths", "mounts", "said"),
    [
        ([CORE_FILE], "selected", "changed core since"),
        (["airflow-core/tests/unit/test_a.py"], "selected", "changed core since"),
        (["shared/logging/src/airflow_shared/logging/a.py"], "selected", "changed core since"),
        ([CORE_FILE, FAB_FILE], "selected", "changed core and the provider since"),
        ([FAB_FILE], "providers-and-tests", "changed the provider since"),
        (["providers/fab/tests/unit/fab/test_a.py", "dev/a.py"], "providers-and-tests", "the provider since"),
    ],
)
def test_what_a_branch_changed_is_mounted(
    airflow: Checkout, pins: Pins, paths: list[str], mounts: str, said: str
) -> None:
    airflow.branch("topic", *paths)
    step = command.start(pins, airflow.folder / "dev", Wish("mysql", "8.4"))
    told = options(list(step.words))
    assert (told["--mount-sources"], told["--mysql-version"]) == (mounts, "8.4")
    assert told.get("--use-airflow-version") == (None if mounts == "selected" else "3.3.2")
    assert step.folder == airflow.folder
    assert said in step.notes[0]


def test_a_dry_run_prints_the_line_and_those_of_upstream(shell: Shell, airflow: Checkout) -> None:
    airflow.branch("topic", CORE_FILE)
    done = shell("start-fab", "--dry-run", airflow.folder, "--backend", "mysql", "--backend-version", "8.4")
    assert done.returncode == 0, done.stderr
    cd, line = done.stdout.splitlines()
    assert cd == f"cd {airflow.folder}"
    assert options(shlex.split(line))["--mysql-version"] == "8.4"
    assert "topic changed core since refs/heads/main" in done.stderr
    assert f": {MAINTAINERS}\n" in done.stderr
    assert f": {AUTHORS}\n" in done.stderr


def test_what_is_to_run_may_be_said(shell: Shell, airflow: Checkout) -> None:
    airflow.branch("topic", CORE_FILE)
    provider = shell(
        "start-fab",
        "--dry-run",
        "--provider",
        "--use-airflow-version",
        "3.2.2",
        airflow.folder,
        "--backend",
        "sqlite",
        "--db-reset",
        "--load-example-dags",
    )
    told = options(shlex.split(provider.stdout.splitlines()[1]))
    assert (told["--use-airflow-version"], told["--backend"]) == ("3.2.2", "sqlite")
    assert {"--db-reset", "--load-example-dags"} <= told.keys()
    refused = shell("start-fab", "--dry-run", "--core", "--use-airflow-version", "3.2.2", airflow.folder)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "patches of core are not loaded" in refused.stderr


def test_a_branch_that_changed_neither_is_refused(shell: Shell, airflow: Checkout) -> None:
    airflow.branch("topic", "dev/a.py")
    done = shell("start-fab", "--dry-run", airflow.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "topic changed neither core nor the FAB provider since refs/heads/main" in done.stderr


def test_a_branch_that_is_not_checked_out_is_refused(shell: Shell, airflow: Checkout) -> None:
    airflow.branch("topic", CORE_FILE)
    airflow.git("switch", "--quiet", "main")
    done = shell("start-fab", "--dry-run", "--branch", "topic", airflow.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"git -C {airflow.folder} switch topic" in done.stderr


@pytest.mark.parametrize("script", ["apply-to-checkout", "start-fab", "stop"])
def test_what_is_no_checkout_of_airflow_is_refused(shell: Shell, tmp_path: Path, script: str) -> None:
    (tmp_path / "other").mkdir()
    for place, said in (("nowhere", "is not a folder"), ("other", "is not a checkout of Airflow")):
        done = shell(script, "--dry-run", tmp_path / place, GIT_CEILING_DIRECTORIES=str(tmp_path))
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{tmp_path / place} {said}" in done.stderr


@pytest.mark.parametrize("script", ["start-fab", "stop"])
def test_what_is_missing_is_named_and_nothing_is_run(shell: Shell, airflow: Checkout, script: str) -> None:
    airflow.branch("topic", CORE_FILE)
    done = shell(script, airflow.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "breeze was not found. Install it" in done.stderr.replace("\n", " ")
    shell.add("breeze", "echo never")
    done = shell(script, airflow.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Docker, which Breeze needs, was not found" in done.stderr
    shell.add("docker", "echo starting >&2; echo 'no daemon there' >&2; exit 1")
    done = shell(script, airflow.folder)
    assert (done.returncode, done.stdout) == (6, "")
    assert "Docker does not respond: no daemon there" in done.stderr


@pytest.mark.parametrize(
    ("script", "ran"),
    [
        ("start-fab", "start-airflow --backend postgres --auth-manager FabAuthManager"),
        ("stop", "down"),
    ],
)
def test_the_command_is_run_in_the_checkout(
    shell: Shell, airflow: Checkout, tmp_path: Path, script: str, ran: str
) -> None:
    airflow.branch("topic", CORE_FILE)
    shell.add("docker", "exit 0")
    shell.add("breeze", f'pwd > {tmp_path}/told; echo "$@" >> {tmp_path}/told; exit 9')
    done = shell(script, airflow.folder / "dev")
    assert done.returncode == 9
    folder, words = (tmp_path / "told").read_text().splitlines()
    assert folder == str(airflow.folder)
    assert words.startswith(ran)
    assert f"breeze {words}" in done.stdout.splitlines()
    (tmp_path / "told").unlink()
    shell(script, "--dry-run", airflow.folder)
    assert not (tmp_path / "told").exists()


def test_stop_prints_a_subcommand_without_flags(shell: Shell, airflow: Checkout) -> None:
    done = shell("stop", "--dry-run", airflow.folder)
    assert done.stdout.splitlines() == [f"cd {airflow.folder}", "breeze down"]


# The base of a branch, and the release for a checkout.


def test_the_nearest_of_upstreams_branches_and_tags_is_the_base(airflow: Checkout) -> None:
    airflow.branch("v3-2-test", CORE_FILE)
    airflow.branch("mine", FAB_FILE, start="main")
    airflow.branch("topic", FAB_FILE, start="v3-2-test")
    assert branch.look(airflow.folder).base == "refs/heads/v3-2-test"
    assert branch.look(airflow.folder).changed == (FAB_FILE,)
    assert branch.look(airflow.folder, "mine").base == "refs/heads/main"
    assert branch.look(airflow.folder, base="main").changed == (CORE_FILE, FAB_FILE)
    airflow.git("tag", "3.2.2")
    airflow.branch("later", CORE_FILE, start="topic")
    assert branch.look(airflow.folder).base == "refs/tags/3.2.2"
    assert branch.look(airflow.folder).changed == (CORE_FILE,)
    airflow.git("update-ref", "refs/remotes/upstream/main", "topic")
    airflow.git("tag", "--delete", "3.2.2")
    assert branch.look(airflow.folder).base == "refs/remotes/upstream/main"


def test_a_base_that_is_none_is_refused(airflow: Checkout) -> None:
    airflow.git("branch", "--quiet", "-m", "main", "topic")
    with pytest.raises(Problem, match="has no tag or upstream branch from which topic could start"):
        branch.look(airflow.folder)
    with pytest.raises(Problem, match="has no branch, tag or commit 'nowhere'"):
        branch.look(airflow.folder, base="nowhere")
    with pytest.raises(Problem, match="has no branch, tag or commit 'nowhere'"):
        branch.look(airflow.folder, "nowhere")


def test_what_a_branch_makes_of_the_installed_files_is_told(airflow: Checkout) -> None:
    airflow.branch(
        "topic",
        CORE_FILE,
        FAB_FILE,
        "shared/logging/src/airflow_shared/logging/a.py",
        "airflow-core/tests/b.py",
    )
    (airflow.folder / CORE_FILE).unlink()  # what is checked out does not count
    changed = blob(b"changed in topic\n")
    assert changed == airflow.git("rev-parse", f"topic:{CORE_FILE}").strip()
    assert branch.blobs(branch.look(airflow.folder)) == {
        "airflow/api_fastapi/app.py": changed,
        "airflow/providers/fab/www/app.py": changed,
        "airflow/_shared/logging/a.py": changed,
    }


@pytest.mark.parametrize(
    ("words", "release"),
    [
        ([], "apache-airflow-core==3.2.1"),
        (["--patch", "user-cache"], "apache-airflow-providers-fab==3.10.2"),
        (
            ["--release", "apache-airflow-core==3.3.2", "--patch", "request-session"],
            "apache-airflow-core==3.3.2",
        ),
    ],
)
def test_patches_go_out_in_the_form_that_fits_the_checkout(
    shell: Shell, airflow: Checkout, words: list[str], release: str
) -> None:
    done = shell("apply-to-checkout", "--dry-run", *words, airflow.folder, "--branch", "topic")
    assert done.returncode == 0, done.stderr
    tool, *told = shlex.split(done.stdout)
    assert Path(tool).name == "airflow-auth-patches"
    rest = words[words.index("--patch") :] if "--patch" in words else []
    assert told == [
        *("export", "--release", release, *rest),
        *("--checkout", str(airflow.folder), "--branch", "topic"),
    ]


def test_patches_of_core_and_provider_do_not_go_together(shell: Shell, airflow: Checkout) -> None:
    both = ("--patch", "user-cache", "--patch", "request-session")
    done = shell("apply-to-checkout", "--dry-run", *both, airflow.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "need separate branches and pull requests" in done.stderr
    done = shell("apply-to-checkout", "--dry-run", "--patch", "nonsense", airflow.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no patch 'nonsense'" in done.stderr


def test_a_checkout_that_is_older_than_the_series_is_refused(
    airflow: Checkout, project: Series, pins: Pins
) -> None:
    airflow.write("airflow-core/src/airflow/__init__.py", '__version__ = "3.0.6"\n')
    with pytest.raises(
        Problem, match=r"has apache-airflow-core 3\.0\.6, which is older than the oldest release"
    ):
        branch.release_for(airflow.folder, project, pins, None)
    airflow.write("airflow-core/src/airflow/__init__.py", '__version__ = "3.2.2.dev0"\n')
    assert str(branch.release_for(airflow.folder, project, pins, None)) == "apache-airflow-core==3.2.2"
    (airflow.folder / "airflow-core/src/airflow/__init__.py").unlink()
    assert str(branch.release_for(airflow.folder, project, pins, None)) == "apache-airflow-core==3.3.2"


def test_applying_becomes_the_export(
    airflow: Checkout, project: Series, pins: Pins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "export"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\n')
    program.chmod(0o755)
    monkeypatch.setattr(command, "tool", lambda: program)
    step = command.apply_to_checkout(project, pins, airflow.folder, author="A Sender <sender@example.org>")
    child = os.fork()
    if not child:
        try:
            command.become(step)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "told").read_text().endswith("--author A Sender <sender@example.org>\n")


# The proof of what a process runs: a real one, with files in the place of Airflow's.

PROGRAM = """\
import sys
if {library}:
    import psycopg2  # brings a library of the environment into memory, as a real server does
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json

class Handler(BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.path.startswith("/auth/token")
        status = {token} if token else {page}
        body = json.dumps({{"access_token": "t"}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", {port}), Handler)
server.daemon_threads = True
print("listens", flush=True)
server.serve_forever()
"""


@contextmanager
def listening(port: int, *, library: bool = True, token: int = 201, page: int = 200) -> Iterator[None]:
    """Let a process of this interpreter answer on a port."""
    text = PROGRAM.format(port=port, library=library, token=token, page=page)
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listens\n"
            yield
        finally:
            process.kill()


def settle(*files: Path) -> None:
    """Wait until files are so old that a process that begins now is surely younger."""
    old = max(file.stat().st_ctime for file in files) + running.MARGIN + 1.1
    while (left := old - time.time()) > 0:
        threading.Event().wait(left)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that this interpreter imports from, with a file in Airflow's place."""
    file = tmp_path / "site" / "airflow" / "models" / "a.py"
    file.parent.mkdir(parents=True)
    for package in (file.parent, file.parents[1]):
        (package / "__init__.py").touch()
    file.write_text("patched\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return tmp_path / "site"


EXPECTED = {"airflow/models/a.py": blob(b"patched\n")}


def proven(port: int) -> running.Seen:
    place = running.local_place(Path(sys.executable), port)
    seen = running.inspect(place, list(EXPECTED))
    running.prove(place, seen, EXPECTED)
    return seen


def test_a_process_that_is_younger_than_the_patched_files_is_proven(site: Path) -> None:
    settle(site / "airflow/models/a.py")
    before, port = time.time(), free_port()
    with listening(port):
        seen = proven(port)
        (listener,) = seen.listeners
        assert before - 1.1 < listener.started < time.time()
        assert seen.files["airflow/models/a.py"].file == str(site / "airflow/models/a.py")


def test_a_process_that_is_older_than_the_patched_files_is_not(site: Path) -> None:
    """Their dates say nothing: an installer may give them any."""
    file = site / "airflow/models/a.py"
    settle(file)
    port = free_port()
    with listening(port):
        proven(port)
        file.with_suffix(".new").write_text("patched\n")
        os.utime(file.with_suffix(".new"), (0, 0))
        file.with_suffix(".new").replace(file)
        with pytest.raises(Problem, match=r"a\.py changed after the start of process \d+"):
            proven(port)


@pytest.mark.parametrize(
    ("text", "said"), [("stock\n", r"a\.py does not have the patched content"), (None, "does not exist")]
)
def test_other_code_is_not_proven(site: Path, text: str | None, said: str) -> None:
    file = site / "airflow/models/a.py"
    file.unlink()
    if text is not None:
        file.write_text(text)
    port = free_port()
    with listening(port), pytest.raises(Problem, match=said) as told:
        proven(port)
    assert told.value.exit_code is Exit.USAGE


def test_a_package_that_comes_first_hides_the_patched_one(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first" / "airflow"
    (first / "models").mkdir(parents=True)
    (first / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'first'}{os.pathsep}{os.environ['PYTHONPATH']}")
    settle(site / "airflow/models/a.py")
    port = free_port()
    with listening(port):
        proven(port)  # `airflow` is in both, `airflow.models` is a package in the second alone
        (first / "models" / "__init__.py").touch()
        with pytest.raises(Problem, match=r"a\.py does not exist"):
            proven(port)


def test_a_process_of_another_environment_is_not_proven(site: Path) -> None:
    settle(site / "airflow/models/a.py")
    port = free_port()
    with listening(port, library=False):
        with pytest.raises(
            Problem, match=rf"which listens on port {port}, does not use the packages of .*, but none"
        ):
            proven(port)


def test_a_port_on_which_nobody_listens_is_told(site: Path) -> None:
    with pytest.raises(Problem, match="No process that this user can inspect listens"):
        proven(free_port())
    with pytest.raises(Problem, match="cannot inspect the server"):
        running.inspect(running.local_place(Path("/bin/false"), 1), [])
    with pytest.raises(Problem, match="is not an interpreter"):
        running.local_place(Path("/nowhere"), 1)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:28080", "http://example.org:28080", "http://127.0.0.1", "28080", "http://[:1"]
)
def test_an_address_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(Problem, match="is not a URL of a port on this machine"):
        verify.port_of(url)
    assert verify.port_of("http://localhost:28080") == 28080


# The whole of `verify`, in a container that is none: Docker's place is taken by a program that runs it here.

DOCKER = """\
case "$1" in
    ps) [ "$2 $3" = "--filter publish={port}" ] && echo "breeze-airflow-1 22/tcp, [::]:{port}->{port}/tcp" ;;
    exec) [ "$2 $3 $4" = "-i breeze-airflow-1 python" ] && shift 4 && PYTHONPATH={path} exec {python} "$@" ;;
esac
"""

Verify = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def contained(shell: Shell, airflow: Checkout, project: Series) -> Verify:
    """Give a function that runs `verify` on a checkout with a patch, behind the port of a container."""
    patch = next(patch for patch in project.patches if patch.slug == "request-session")
    airflow.branch("topic", CORE_FILE, subject=patch.subject)
    sources = airflow.folder / "airflow-core/src"
    (sources / "airflow/api_fastapi/__init__.py").touch()
    settle(airflow.folder / CORE_FILE)

    def call(*words: str, token: int = 201, page: int = 200) -> subprocess.CompletedProcess[str]:
        port = free_port()
        path = shlex.quote(f"{sources}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        shell.add("docker", DOCKER.format(port=port, path=path, python=sys.executable))
        with listening(port, token=token, page=page):
            return shell("verify", "--checkout", airflow.folder, "--url", f"http://127.0.0.1:{port}", *words)

    return call


def test_a_server_that_runs_the_branch_is_verified(contained: Verify) -> None:
    done = contained("--json")
    assert done.returncode == 0, done.stderr
    assert (
        "container breeze-airflow-1 runs the patched code: 1 files have the content of the branch topic"
        in done.stderr
    )
    told = json.loads(done.stdout)
    assert told["proof"]["patches"] == ["request-session"]
    assert [file["path"] for file in told["proof"]["files"]] == ["airflow/api_fastapi/app.py"]
    assert [(each["name"], each["failed"]) for each in told["scenarios"]] == [
        ("sequence", False),
        ("token-race", False),
        ("mixed-race", False),
    ]
    (tokens,), (mixed,) = (each["measurements"] for each in told["scenarios"][1:])
    assert (tokens["name"], tokens["rounds"], tokens["requests"]) == ("5 at once", 3, 15)
    assert (mixed["name"], mixed["rounds"], mixed["requests"]) == ("3 at once", 5, 15)


def test_a_failure_of_the_patched_code_is_another_thing(contained: Verify) -> None:
    done = contained(page=500)
    assert done.returncode == 1, done.stderr
    assert "10 of 15 fail" in done.stdout.replace("\n", " ")
    done = contained(token=503)
    assert done.returncode == 1, done.stderr
    assert "not measured" in done.stdout


def test_a_wrong_password_is_a_usage_error(contained: Verify) -> None:
    done = contained(token=401)
    assert (done.returncode, done.stdout) == (2, "")
    assert "returned 401 to a single token request" in done.stderr
    assert "Use --username and --password" in done.stderr


def test_a_server_that_runs_other_code_is_not_asked(contained: Verify, airflow: Checkout) -> None:
    airflow.write(CORE_FILE, "stock\n")
    done = contained()
    assert (done.returncode, done.stdout) == (2, "")
    assert "The server does not run the patched code" in done.stderr
    airflow.git("switch", "--quiet", "--discard-changes", "topic")
    done = contained("--patch", "auth-manager-singleton")
    assert (done.returncode, done.stdout) == (2, "")
    assert "lacks auth-manager-singleton since refs/heads/main" in done.stderr.replace("\n", " ")


def test_a_branch_without_a_patch_is_not_asked(contained: Verify, airflow: Checkout) -> None:
    airflow.branch("other", CORE_FILE, start="main")
    done = contained()
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no commit of a patch of the series" in done.stderr.replace("\n", " ")


def test_a_branch_without_installed_files_is_not_asked(
    airflow: Checkout, project: Series, pins: Pins
) -> None:
    airflow.branch("topic", "airflow-core/tests/unit/test_a.py", subject=project.patches[0].subject)
    with pytest.raises(Problem, match=r"topic of .* changed no installed file since refs/heads/main"):
        expect(Subject(checkout=airflow.folder), project, pins, Silent())


@pytest.mark.parametrize(
    ("subject", "url", "said"),
    [
        (Subject(), "127.0.0.1:28080", "The code that the server must run is unknown"),
        (
            Subject(container="c", python=Path(sys.executable)),
            "127.0.0.1:28080",
            "The code that the server must run is unknown",
        ),
        (Subject(branch="topic"), "127.0.0.1:28080", "--branch and --base need a checkout"),
        (Subject(python=Path("/nowhere")), "127.0.0.1:28080", "is not an interpreter"),
        (Subject(python=Path(sys.executable)), "127.0.0.1:28080", "has no Airflow"),
        (Subject(checkout=Path("/nowhere")), "127.0.0.1:28080", "is not a folder"),
        (Subject(patches=["nonsense"]), "127.0.0.1:28080", "no patch 'nonsense'"),
        (Subject(), "example.org:28080", "is not a URL of a port on this machine"),
    ],
)
def test_whatever_keeps_from_the_proof_is_a_usage_error(
    project: Series, pins: Pins, subject: Subject, url: str, said: str
) -> None:
    with pytest.raises(Problem, match=said) as told:
        verify.prove(f"http://{url}", subject, project, pins, Silent())
    assert told.value.exit_code is Exit.USAGE


def test_the_container_of_a_port_is_found(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert running.published(28080).port == 8080
    assert running.published(28080, "python3", "two").words(["a"]) == [
        *("docker", "exec", "-i", "two", "python3", "-", "81", "a")
    ]
    with pytest.raises(Problem, match="No container publishes port 8080"):
        running.published(8080)
    with pytest.raises(Problem, match="three does not publish port 28080"):
        running.published(28080, container="three")


def test_a_dry_run_of_verify_prints_what_it_would_run(
    shell: Shell, airflow: Checkout, project: Series, root: Path
) -> None:
    patch = next(patch for patch in project.patches if patch.slug == "request-session")
    airflow.branch("topic", CORE_FILE, subject=patch.subject)
    shell.add("docker", "exit 1")
    done = shell("verify", "--dry-run", "--checkout", airflow.folder)
    assert done.returncode == 0, done.stderr
    finds, looks, asks = done.stdout.splitlines()
    assert finds == "docker ps --filter publish=28080 --format '{{.Names}} {{.Ports}}'"
    program = root / "src/airflow_auth_patches/demo/listening.py"
    assert looks == f"docker exec -i CONTAINER python - PORT airflow/api_fastapi/app.py < {program}"
    assert asks == "# then requests to http://127.0.0.1:28080: sequence, token-race, mixed-race"
    done = shell("verify", "--dry-run", "--checkout", airflow.folder, "--python", sys.executable)
    assert done.stdout.splitlines()[0] == f"{sys.executable} - 28080 airflow/api_fastapi/app.py < {program}"
