"""The proof of the code that a process runs, and `breeze verify`, which requires it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_auth_patches.contribute import verify
from airflow_auth_patches.contribute.expected import Subject, expect
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.installation import running
from airflow_auth_patches.installation.listening import blob
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Silent

HERE, PYTHON = "http://127.0.0.1:28080", Path(sys.executable)
CORE_FILE = "airflow-core/src/airflow/api_fastapi/app.py"
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


def settle(*files: Path):
    """Wait until files are so old that a process that begins now is surely younger."""
    old = max(file.stat().st_ctime for file in files) + running.MARGIN + 1.1
    while (left := old - time.time()) > 0:
        threading.Event().wait(left)


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Path:
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
    place = running.local_place(PYTHON, port)
    seen = running.inspect(place, list(EXPECTED))
    running.prove(place, seen, EXPECTED)
    return seen


def test_a_process_that_is_younger_than_the_patched_files_is_proven(site: Path):
    settle(site / "airflow/models/a.py")
    before, port = time.time(), free_port()
    with listening(port):
        seen = proven(port)
        (listener,) = seen.listeners
        assert before - 1.1 < listener.started < time.time()
        assert seen.files["airflow/models/a.py"].file == str(site / "airflow/models/a.py")


def test_a_process_that_is_older_than_the_patched_files_is_not(site: Path):
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
def test_other_code_is_not_proven(site: Path, text: str | None, said: str):
    file = site / "airflow/models/a.py"
    file.unlink()
    if text is not None:
        file.write_text(text)
    port = free_port()
    with listening(port), pytest.raises(Problem, match=said) as told:
        proven(port)
    assert told.value.exit_code is Exit.USAGE


def test_a_package_that_comes_first_hides_the_patched_one(site: Path, tmp_path: Path, monkeypatch):
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


def test_each_process_that_is_older_than_the_patched_files_is_named(site: Path):
    """As after a restart of one worker of several."""
    file, port = site / "airflow/models/a.py", free_port()
    settle(file)
    place = running.local_place(PYTHON, port)
    with listening(port):
        seen = running.inspect(place, list(EXPECTED))
        (old,) = seen.listeners
        new = replace(old, pid=old.pid + 1, started=old.started + 2 * running.MARGIN)
        changed = replace(seen.files["airflow/models/a.py"], changed=old.started)
        workers = replace(
            seen,
            listeners=(old, new, replace(old, pid=old.pid + 2)),
            files={**seen.files, "airflow/models/a.py": changed},
        )
        found = [fault.what for fault in running.faults(place, workers, EXPECTED)]
    assert [
        f"process {pid}, which" in what for pid, what in zip((old.pid, old.pid + 2), found, strict=True)
    ] == [True] * 2


def test_finds_a_file_that_only_the_server_imports(site: Path, tmp_path: Path, monkeypatch):
    """Its PYTHONPATH differs from that of this tool."""
    settle(site / "airflow/models/a.py")
    (tmp_path / "first/airflow/models").mkdir(parents=True)
    for package in ("airflow", "airflow/models"):
        (tmp_path / "first" / package / "__init__.py").touch()
    port, places = free_port(), os.environ["PYTHONPATH"]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'first'}{os.pathsep}{places}")
    with listening(port):
        monkeypatch.setenv("PYTHONPATH", places)
        with pytest.raises(Problem, match=r"a\.py does not exist"):
            proven(port)


def test_a_process_of_another_environment_is_not_proven(site: Path):
    settle(site / "airflow/models/a.py")
    port = free_port()
    with listening(port, library=False):
        with pytest.raises(
            Problem, match=rf"which listens on port {port}, does not use the packages of .*, but none"
        ):
            proven(port)


def test_a_port_on_which_nobody_listens_is_told(site: Path):
    with pytest.raises(Problem, match="No process that this user can inspect listens"):
        proven(free_port())
    with pytest.raises(Problem, match="cannot inspect the server"):
        running.inspect(running.local_place(Path("/bin/false"), 1), [])
    with pytest.raises(Problem, match="is not an interpreter"):
        running.local_place(Path("/nowhere"), 1)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:28080", "http://example.org:28080", "http://127.0.0.1", "28080", "http://[:1"]
)
def test_an_address_elsewhere_is_refused(url: str):
    with pytest.raises(Problem, match="is not a URL of a port on this machine"):
        running.port_of(url)
    assert running.port_of("http://localhost:28080") == 28080
    assert running.port_of("https://localhost:28080", ("http", "https")) == 28080


# The whole of `verify`, in a container that is none: Docker's place is taken by a program that runs it here.

DOCKER = """\
case "$1" in
    ps) [ "$2 $3" = "--filter publish={port}" ] && echo "breeze-airflow-1 22/tcp, [::]:{port}->{port}/tcp" ;;
    exec) [ "$2 $3" = "-i breeze-airflow-1" ] && shift 3 && PYTHONPATH={path} exec "$@" ;;
esac
"""


#: A patch without a probe, because these servers have no database.
PATCH = "auth-manager-purge-race"


def put_a_patch(airflow, project):
    """Put a commit with the subject of a patch on a new branch."""
    patch = next(patch for patch in project.patches if patch.slug == PATCH)
    airflow.branch("topic", CORE_FILE, subject=patch.subject)


@pytest.fixture
def contained(shell, airflow, project):
    """Give a function that runs `verify` on a checkout with a patch, behind the port of a container."""
    put_a_patch(airflow, project)
    sources = airflow.folder / "airflow-core/src"
    (sources / "airflow/api_fastapi/__init__.py").touch()
    settle(airflow.folder / CORE_FILE)

    def call(*words: str, token: int = 201, page: int = 200) -> subprocess.CompletedProcess[str]:
        port = free_port()
        path = shlex.quote(f"{sources}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        shell.add("docker", DOCKER.format(port=port, path=path))
        with listening(port, token=token, page=page):
            return shell("verify", "--checkout", airflow.folder, "--url", f"http://127.0.0.1:{port}", *words)

    return call


def test_a_server_that_runs_the_branch_is_verified(contained):
    done = contained("--json")
    assert done.returncode == 0, done.stderr
    assert (
        "container breeze-airflow-1 runs the patched code: 1 files have the content of the branch topic"
        in done.stderr
    )
    told = json.loads(done.stdout)
    assert told["proof"]["patches"] == [PATCH]
    assert [file["path"] for file in told["proof"]["files"]] == ["airflow/api_fastapi/app.py"]
    assert [(each["name"], each["outcome"]) for each in told["scenarios"]] == [
        ("sequence", "passed"),
        (PATCH, "no probe"),
    ]
    assert told["scenarios"][1]["sees"].startswith("The gap is between two statements")


def test_a_failure_of_the_patched_code_is_another_thing(contained):
    done = contained("--json", page=500)
    assert done.returncode == 1, done.stderr
    sequence = json.loads(done.stdout)["scenarios"][0]
    assert (sequence["outcome"], " fail (" in sequence["sees"]) == ("failed", True)
    done = contained(token=503)
    assert done.returncode == 1, done.stderr
    assert "not measured" in done.stdout


def test_a_wrong_password_is_a_usage_error(contained):
    done = contained(token=401)
    assert (done.returncode, done.stdout) == (2, "")
    assert "returned 401 to a single token request" in done.stderr
    assert "Use --username and --password" in done.stderr


def test_unpatched_server_must_not_run_the_branch(contained, airflow):
    done = contained("--unpatched")
    assert (done.returncode, done.stdout) == (2, "")
    assert "runs the patched code" in done.stderr
    airflow.write({CORE_FILE: "stock\n"})
    done = contained("--unpatched", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["proof"]["patched"] is False
    assert [(each["name"], each["outcome"]) for each in told["scenarios"]] == [(PATCH, "no probe")]


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (lambda it: it.write({CORE_FILE: "stock\n"}), (), "The server does not run the patched code"),
        (lambda it: it.branch("other", CORE_FILE), (), "has no commit of a patch of the series"),
        (None, ("--patch", "auth-manager-singleton"), "lacks auth-manager-singleton since refs/heads/main"),
    ],
)
def test_sends_no_request_to_a_server_that_runs_other_code(contained, airflow, change, words, said):
    if change:
        change(airflow)
    done = contained(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.replace("\n", " ")


def test_a_branch_without_installed_files_is_not_asked(this_project, airflow, project):
    airflow.branch("topic", "airflow-core/tests/unit/test_a.py", subject=project.patches[0].subject)
    with pytest.raises(Problem, match=r"topic of .* changed no installed file since refs/heads/main"):
        expect(Subject(checkout=airflow.folder), this_project, Silent())


@pytest.mark.parametrize(
    ("subject", "url", "said"),
    [
        (Subject(), HERE, "The code that the server must run is unknown"),
        (Subject(container="c", python=PYTHON), HERE, "The code that the server must run is unknown"),
        (Subject(branch="topic"), HERE, "--branch and --base need a checkout"),
        (Subject(python=Path("/nowhere")), HERE, "is not an interpreter"),
        (Subject(python=PYTHON), HERE, "has no Airflow"),
        (Subject(checkout=Path("/nowhere")), HERE, "is not a folder"),
        (Subject(patches=["nonsense"]), HERE, "no patch 'nonsense'"),
        (Subject(), "http://example.org:28080", "is not a URL of a port on this machine"),
    ],
)
def test_whatever_keeps_from_the_proof_is_a_usage_error(this_project, subject: Subject, url: str, said: str):
    with pytest.raises(Problem, match=said) as told:
        verify.prove(url, subject, this_project, Silent())
    assert told.value.exit_code is Exit.USAGE


def test_a_dry_run_of_verify_prints_what_it_would_run(shell, airflow, project, root: Path):
    put_a_patch(airflow, project)
    shell.add("docker", "exit 1")
    done = shell("verify", "--dry-run", "--checkout", airflow.folder)
    assert done.returncode == 0, done.stderr
    finds, python, looks, asks = done.stdout.splitlines()
    script = root / "src/airflow_auth_patches/installation/find_python.sh"
    assert python == f"docker exec -i CONTAINER sh -s PORT < {script}"
    assert finds == "docker ps --filter publish=28080 --format '{{.Names}} {{.Ports}}'"
    program = root / "src/airflow_auth_patches/installation/listening.py"
    assert looks == f"docker exec -i CONTAINER PYTHON - PORT airflow/api_fastapi/app.py < {program}"
    assert asks == "# then requests to http://127.0.0.1:28080: sequence"
    done = shell("verify", "--dry-run", "--checkout", airflow.folder, "--python", sys.executable)
    assert done.stdout.splitlines()[0] == f"{sys.executable} - 28080 airflow/api_fastapi/app.py < {program}"
