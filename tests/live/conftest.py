"""Fixtures for servers and databases of our own."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_auth_patches.demo.run import private_folder
from airflow_auth_patches.installation.environments import Environment

#: Says on the FIFO that it is there, with a child, both deaf to SIGTERM in the mode `stubborn`.
LIFE = """\
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


class Life:
    """
    A FIFO that programs hold open: it tells when they are there and when the last of them is gone.

    :ivar path: for the programs to open.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        # Held by us, too, so that it is not at its end before the first program comes.
        self._ours: int | None = os.open(path, os.O_WRONLY)
        self._read = b""

    def _more(self, timeout: float) -> bytes:
        ready, _, _ = select.select([self._end], [], [], timeout)
        assert ready, f"nothing happened for {timeout} s; so far: {self._read!r}"
        return os.read(self._end, 4096)

    def line(self, timeout: float = 60) -> str:
        """Wait for the next line that a program writes, and return it."""
        while b"\n" not in self._read:
            self._read += self._more(timeout)
        line, self._read = self._read.split(b"\n", 1)
        return line.decode()

    def gone(self, timeout: float = 60) -> None:
        """Wait until no program holds it any more; none may come after that."""
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


@pytest.fixture
def room() -> Iterator[Path]:
    """Return a folder that the database's user can reach, too, when the tests run as root."""
    with private_folder() as folder:
        yield folder


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    fifo = Life(tmp_path / "life")
    yield fifo
    fifo.close()


@pytest.fixture
def living(life: Life) -> Callable[..., str]:
    """
    Give a function that returns a Python program, which says where it is and lives with its child.

    Its arguments: ``stubborn``, whether both ignore SIGTERM; ``stays``, whether it waits to be ended or ends
    itself and leaves the child.
    """

    def code(*, stubborn: bool = False, stays: bool = True) -> str:
        end = "signal.pause()" if stays else "os._exit(0)"
        return LIFE.format(fifo=str(life.path), stubborn=stubborn) + f"here()\n{end}\n"

    return code


@pytest.fixture
def fake(life: Life, tmp_path: Path) -> Callable[[str], Environment]:
    """
    Give a function that makes an environment whose Airflow is a small web server.

    Its argument is what that does: ``serves``; ``dies`` when booted; ``silent``: boots and never answers;
    ``hangs`` at the request for a token; ``refuses`` it; ``stubborn``: does not end when told to;
    ``unprepared``: hangs while a database is prepared; ``unpreparable``: fails at it.
    """

    def make(mode: str) -> Environment:
        folder = tmp_path / mode
        folder.mkdir()
        for name, text in (("python", FAKE_PYTHON), ("airflow", FAKE_AIRFLOW)):
            program = folder / name
            head = LIFE.format(fifo=str(life.path), stubborn=mode == "stubborn")
            program.write_text(f"#!{sys.executable}\n{head}{text.format(mode=mode)}")
            program.chmod(0o755)
        return Environment(folder / "python")

    return make
