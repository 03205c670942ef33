"""Reading the counts of the probe `check_watch` from a server."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from local_server import serving

from airflow_auth_patches.demo import checks
from airflow_auth_patches.demo.checks import Used
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.util.errors import Problem

asked: list[str] = []
held_then: list[int] = []


@pytest.fixture
def url() -> Iterator[str]:
    def respond(request: BaseHTTPRequestHandler) -> tuple[int, object]:
        asked.append(f"{request.command} {request.path}")
        held = held_then.pop(0) if held_then else 0
        known = request.path.startswith("/check-watch/")
        return (200 if known else 404), {"most": 1, "held": held, "taken": 3, "queries": 4}

    asked.clear()
    held_then.clear()
    with serving(respond) as url:
        yield url


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
    with pytest.raises(Problem, match=r"GET http://.*/elsewhere/check-watch/report returned 404: .*queries"):
        checks.report(f"{url}/elsewhere")
    with pytest.raises(Problem, match=r"POST http://.*/check-watch/reset failed: ConnectError"):
        checks.reset(f"http://127.0.0.1:{free_port()}")
