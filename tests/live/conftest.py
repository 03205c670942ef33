"""Fixtures for private servers and databases."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_auth_patches.demo.run import private_folder
from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util.processes import run

#: Opens the FIFO and starts a child process. Both ignore SIGTERM in the mode `stubborn`.
START = """\
import os, signal, subprocess, sys
line = os.open({fifo!r}, os.O_WRONLY)
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=[line])
def here():
    os.write(line, os.getcwd().encode() + b"\\n")
"""

FAKE_PYTHON = """\
if {mode!r} == "unprepared":
    here()
    signal.pause()
child.kill()
sys.exit("no such table" if {mode!r} == "unpreparable" else 0)
"""

FAKE_AIRFLOW = """\
import json, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import jwt
if {mode!r} == "dies":
    child.kill()
    sys.exit("it cannot go on")
if {mode!r} == "silent":
    here()
    signal.pause()
with open("environment.json", "w") as file:
    json.dump(dict(os.environ), file)

class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.answer(200, {{"path": self.path}})

    def do_POST(self):
        if {mode!r} == "hangs":
            here()
            signal.sigwait([signal.SIGUSR1])
        claims = {{"sub": "1", "jti": "first", "exp": int(time.time()) + 60}}
        secret = os.environ["AIRFLOW__API_AUTH__JWT_SECRET"]
        token = jwt.encode(claims, secret, algorithm="HS512", headers={{"kid": "not-used"}})
        self.answer(403 if {mode!r} == "refuses" else 201, {{"access_token": token}})

server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler)
server.daemon_threads = True
if {mode!r} != "hangs":
    here()
print("serving", flush=True)
server.serve_forever()
"""


class Fifo:
    """
    A FIFO that programs keep open: it shows when they started and when the last one ended.

    :ivar path: the path that the programs open.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        # Keep a write end open, so that there is no end of file before the first program opens it.
        self._ours: int | None = os.open(path, os.O_WRONLY)
        self._read = b""

    def _more(self, timeout: float) -> bytes:
        ready, _, _ = select.select([self._end], [], [], timeout)
        assert ready, f"no data for {timeout} s; read so far: {self._read!r}"
        return os.read(self._end, 4096)

    def read_line(self, timeout: float = 300) -> str:
        """Wait for the next line that a program writes, and return it."""
        while b"\n" not in self._read:
            self._read += self._more(timeout)
        line, self._read = self._read.split(b"\n", 1)
        return line.decode()

    def wait_closed(self, timeout: float = 300) -> None:
        """Wait until no program has the FIFO open. No program can open it after that."""
        self._let_go()
        while self._more(timeout):
            pass

    def _let_go(self) -> None:
        if self._ours is not None:
            os.close(self._ours)
            self._ours = None

    def close(self) -> None:
        self._let_go()
        os.close(self._end)


@pytest.fixture(scope="session")
def in_airflow(
    root: Path, pins: Pins, python: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """
    Return a function that runs a program in the stock environment of a pair of releases.

    Its arguments are the name of the pair, the file or the code of the program, the arguments of the program,
    and environment variables. It returns the output.
    """

    def call(name: str, program: Path | str, *arguments: object, **variables: str) -> str:
        pair = pins.pair(name)
        environment = environments.make(
            pair, python, pair_environments.folder_of(root, pair, python, "stock")
        )
        folder = tmp_path_factory.mktemp("program")
        if isinstance(program, str):
            (folder / "program.py").write_text(program)
            program = folder / "program.py"
        user = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PYTHON"))}
        own = {"AIRFLOW_HOME": str(folder), **variables}
        return run([environment.python, program, *map(str, arguments)], env={**user, **own}, timeout=300)

    return call


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Return a folder that the database user can access, also when the tests run as root."""
    with private_folder() as folder:
        yield folder


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    opened = Fifo(tmp_path / "fifo")
    yield opened
    opened.close()


@pytest.fixture
def program_code(fifo: Fifo) -> Callable[..., str]:
    """
    Return a function that returns the code of a Python program with a child process.

    The program writes its working folder to the FIFO. Arguments: ``stubborn``, whether both processes ignore
    SIGTERM; ``stays``, whether the program keeps running, or ends and leaves the child.
    """

    def code(*, stubborn: bool = False, stays: bool = True) -> str:
        end = "signal.pause()" if stays else "os._exit(0)"
        return START.format(fifo=str(fifo.path), stubborn=stubborn) + f"here()\n{end}\n"

    return code


@pytest.fixture
def fake(fifo: Fifo, tmp_path: Path) -> Callable[[str], Environment]:
    """
    Return a function that creates an environment with a small web server instead of Airflow.

    Its argument is the behavior: ``serves``; ``dies``: ends at boot; ``silent``: boots but never responds;
    ``hangs``: at a token request; ``refuses``: token requests; ``stubborn``: ignores SIGTERM; ``unprepared``:
    hangs in the preparation of a database; ``unpreparable``: fails in it.
    """

    def make(mode: str) -> Environment:
        folder = tmp_path / mode
        folder.mkdir()
        for name, text in (("python", FAKE_PYTHON), ("airflow", FAKE_AIRFLOW)):
            program = folder / name
            head = START.format(fifo=str(fifo.path), stubborn=mode == "stubborn")
            program.write_text(f"#!{sys.executable}\n{head}{text.format(mode=mode)}")
            program.chmod(0o755)
        return Environment(folder / "python")

    return make
