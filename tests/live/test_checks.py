"""Reading the counts of the probe `check_watch` from a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_auth_patches.demo import checks
from airflow_auth_patches.demo.checks import Used
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.util.errors import Problem

asked: list[str] = []
held_then: list[int] = []


class Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        asked.append(f"{self.command} {self.path}")
        held = held_then.pop(0) if held_then else 0
        body = json.dumps({"most": 1, "held": held, "taken": 3, "queries": 4}).encode()
        self.send_response(200 if self.path.startswith("/check-watch/") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    asked.clear()
    held_then.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(30)
    assert not thread.is_alive()


def test_waits_until_no_connection_is_held(url: str) -> None:
    checks.reset(url)
    held_then.extend([2, 1])
    assert checks.report(url) == Used(most=1, held=0, taken=3, queries=4)
    assert asked == ["POST /check-watch/reset", *["GET /check-watch/report"] * 3]


def test_reports_connection_that_is_not_returned(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SETTLE", 0)
    held_then.extend([1] * 9)
    assert checks.report(url).held == 1


def test_server_without_probe_raises_problem(url: str) -> None:
    with pytest.raises(Problem, match="The check could not be watched: 404"):
        checks.report(f"{url}/elsewhere")
    with pytest.raises(Problem, match="The check could not be watched: ConnectError"):
        checks.reset(f"http://127.0.0.1:{free_port()}")
