"""Reading the counts of the probes from a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from local_server import running

from airflow_auth_patches.demo import checks, loop, pages, users
from airflow_auth_patches.demo.ports import free_port
from airflow_auth_patches.util.errors import Problem

SITE = {"kind": "waits", "site": "a.py:f", "count": 2, "routes": {"GET /": 2}}
LOOP = {
    "totals": {"statements": 1, "checkouts": 2, "ends": 3, "waits": 4, "nested": 5},
    **dict.fromkeys(("seconds", "waited", "longest_stop", "longest_block", "longest_collection"), 0.5),
    **{"late_beats": 6, "beats": 7, "exempt": {}, "sites": [SITE], "stops": {}},
}
requests: list[str] = []
#: The number of connections that each report of the check gives; 0 after the last one.
held: list[int] = []


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        requests.append(f"{self.command} {self.path}")
        found = {
            "GET /user-watch/report": {"users": 2, "queries": 5, "on_loop": 1},
            "GET /check-watch/report": {"most": 1, "held": held[0] if held else 0, "taken": 3, "queries": 4},
            "GET /loop-watch/report": LOOP,
            "POST /check-watch/reset": {},
            "POST /user-watch/reset": {},
        }.get(requests[-1])
        del held[:1]
        body = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    requests.clear()
    held.clear()
    with running(Handler) as url:
        yield url


def test_resets_and_reads_counts(url: str) -> None:
    pages.reset(url, checks.WATCH, users.WATCH)
    assert users.report(url) == users.Read(users=2, queries=5, on_loop=1)
    seen = loop.report(url)
    assert (seen.statements, seen.nested, seen.late, seen.sites) == (1, 5, 6, (loop.Site(**SITE),))
    assert requests[:2] == ["POST /check-watch/reset", "POST /user-watch/reset"]


def test_waits_until_check_holds_no_connection(url: str) -> None:
    held.extend([2, 1])
    assert checks.report(url) == checks.Used(most=1, held=0, taken=3, queries=4)
    assert len(requests) == 3


def test_reports_connection_that_check_does_not_return(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SETTLE", 0)
    held.extend([1] * 9)
    assert checks.report(url).held == 1


def test_server_without_probe_raises_problem(url: str) -> None:
    with pytest.raises(Problem, match=r"GET .*/elsewhere/user-watch/report returned 404"):
        users.report(f"{url}/elsewhere")
    with pytest.raises(Problem, match=r"POST .*/pool-watch/reset failed: ConnectError"):
        pages.reset(f"http://127.0.0.1:{free_port()}", "pool_watch")
