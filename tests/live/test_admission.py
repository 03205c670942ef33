"""The limit on concurrent requests, on a real server with only this patch, and on a stock server."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from airflow_auth_patches.demo import preparation, tasks
from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import pool_timeouts
from airflow_auth_patches.demo.pages import ask
from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.preparation import Keys, Preparation, Settings
from airflow_auth_patches.demo.run import private_folder
from airflow_auth_patches.demo.scenarios import logout
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.installation import environments, pair_environments, plugin
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.util.errors import Problem

pytestmark = pytest.mark.live

PAIR = "3.3.2+3.10.2"
#: Five connections, so the limit is two requests for each API.
SETTINGS = Settings(pool_size=3, max_overflow=2, pool_timeout=10, probes=("admission_watch",))
LIMIT = 2
DAGS = "/api/v2/dags?limit=5"
#: Seconds; longer than any step of these tests on a working server.
PATIENCE = 60.0
#: Seconds within which a server that does not hang responds to a request that needs no slot.
AT_ONCE = 7.0

Make = Callable[..., Server]


@pytest.fixture(scope="module")
def make(project, pins, python, tmp_path_factory) -> Iterator[Make]:
    """Return a function that creates a server: ``stock`` or with only the ``patch``."""
    root, pair = project.folder.parent, pins.pair(PAIR)
    logs = tmp_path_factory.mktemp("logs")
    installed: dict[str, Environment] = {
        "stock": environments.make(pair, python, pair_environments.folder_of(root, pair, python, "stock")),
        "patch": pair_environments.patched_environment(
            root, project, pins, pair, python, kind="admission", only=[plugin.SLUG]
        ),
    }
    with private_folder() as folder, PostgreSQL(folder / "postgresql") as database:
        with Preparation(installed["stock"], database, "base", folder / "base", Keys()) as prepared:
            prepared.wait()

            def boot(build: str, name: str, settings: Settings = SETTINGS) -> Server:
                log = logs / f"{name}.log"
                return Server(installed[build], PAIR, name, prepared=prepared, settings=settings, log=log)

            yield boot


@pytest.fixture(scope="module")
def patched(make: Make) -> Iterator[Server]:
    with make("patch", "patched") as server:
        yield server.wait()


@pytest.fixture(scope="module")
def stock_server(make: Make) -> Iterator[Server]:
    with make("stock", "stock") as server:
        yield server.wait()


@pytest.fixture
def stock(stock_server: Server) -> Server:
    """Return the stock server. Restarts it if an earlier test made it hang."""
    if not stock_server.healthy(AT_ONCE):
        stock_server.restart()
    return stock_server


def gauges(server: Server) -> dict[str, int]:
    """Return the metrics of the limit. This works even when every slot is in use."""
    return dict(ask("GET", f"{server.url}/static/admission-watch/report"))


def comes_to(expected: Any, observe: Callable[[], Any]) -> Any:
    """Call a function until it returns the expected value or time is over, and return its last value."""
    deadline = time.monotonic() + PATIENCE
    while (seen := observe()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen


def waiting_for_locks(server: Server) -> int:
    """Return the number of requests that hold a connection and wait for a database lock."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND wait_event_type = 'Lock'")
    with create_engine(server.database.url("postgres"), poolclass=NullPool).connect() as connection:
        return connection.execute(waiting, {"name": server.name}).scalar_one()


@contextlib.contextmanager
def busy(
    server: Server, requests: int, holding: int, path: str = DAGS, table: str = "dag"
) -> Iterator[list[Future[httpx.Response]]]:
    """
    Send requests that wait for a locked table, for the duration of a block.

    :param requests: the number of requests.
    :param holding: the number of requests that get a connection.
    :param path: the path of the requests.
    :param table: a table that the requests read.
    """
    tokens = server.tokens(requests)
    with ThreadPoolExecutor(requests) as pool:
        with server.database.lock(server.name, table):
            sent = [pool.submit(get, server, path, token, PATIENCE) for token in tokens]
            assert comes_to(holding, lambda: waiting_for_locks(server)) == holding
            yield sent


def get(server: Server, path: str, token: str | None = None, timeout: float = AT_ONCE) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{server.url}{path}", headers=headers, timeout=timeout, trust_env=False)


def answers(server: Server, path: str, timeout: float = AT_ONCE) -> bool:
    try:
        return get(server, path, timeout=timeout).status_code == 200
    except httpx.TimeoutException:
        return False


def idle(server: Server) -> bool:
    """Check that the limit counts no active request, and that all its slots can be used."""
    if comes_to((0, 0), lambda: (gauges(server)["waiting"], gauges(server)["in_flight"])) != (0, 0):
        return False
    with busy(server, LIMIT + 1, LIMIT):
        taken = gauges(server)
    return taken["in_flight"] == LIMIT


LIVENESS = ("/api/v2/version", "/api/v2/monitor/health")


def test_liveness_endpoints_respond_when_every_slot_is_used(stock: Server, patched: Server):
    with busy(stock, 10, 5):
        assert not all(answers(stock, path) for path in LIVENESS)
    with busy(patched, 10, LIMIT) as sent:
        assert all(answers(patched, path) for path in LIVENESS)
        assert comes_to(8, lambda: gauges(patched)["waiting"]) == 8
    assert [each.result().status_code for each in sent] == [200] * 10


def test_request_that_waits_too_long_gets_503_and_not_500(stock: Server, patched: Server):
    with busy(stock, 10, 5) as sent:
        ended, _ = wait(sent, PATIENCE, FIRST_COMPLETED)
    assert {each.result().status_code for each in ended} == {500}
    before = gauges(patched)["rejected"]
    with busy(patched, 10, LIMIT) as sent:
        rejected = comes_to(8, lambda: gauges(patched)["rejected"] - before)
    assert rejected == 8
    responses = [each.result() for each in sent]
    assert Counter(each.status_code for each in responses) == {200: LIMIT, 503: 8}
    assert {each.headers["Retry-After"] for each in responses if each.status_code == 503} == {"5"}
    assert idle(patched)


def test_ui_load_does_not_starve_tasks(stock: Server, patched: Server):
    for server, served in ((stock, False), (patched, True)):
        heartbeats = tasks.start(server, 3)
        # The execution API creates its routes at the first request. This takes longer than the slot time-out.
        for heartbeat in heartbeats:
            assert not send(server.url, [heartbeat], deadline=PATIENCE).failures
        with busy(server, 10, LIMIT if served else 5, "/api/v2/assets", "asset"):
            result = send(server.url, heartbeats, deadline=PATIENCE)
        assert (not result.failures) is served, result.outcomes


def connect(server: Server, *lines: str, token: str, buffer: int | None = None) -> socket.socket:
    """Open a connection and send the head of a request."""
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", server._port))
    head = (*lines, "Host: 127.0.0.1", f"Authorization: Bearer {token}", "", "")
    client.sendall("\r\n".join(head).encode())
    return client


def test_slow_clients_do_not_delay_others(patched: Server):
    body = b'{"key": "slow", "value": "1"}'
    token, *tokens = patched.tokens(41)
    with contextlib.ExitStack() as stack:
        uploads = [
            stack.enter_context(
                connect(
                    patched,
                    "POST /api/v2/variables HTTP/1.1",
                    "Content-Type: application/json",
                    f"Content-Length: {len(body)}",
                    token=token,
                )
            )
            for _ in range(50)
        ]
        readers = [
            stack.enter_context(
                connect(patched, "GET /api/v2/dags?limit=100 HTTP/1.1", token=token, buffer=4096)
            )
            for _ in range(50)
        ]
        assert comes_to((0, 0), lambda: (gauges(patched)["waiting"], gauges(patched)["in_flight"])) == (0, 0)
        for number in range(10):  # byte by byte, never complete
            for upload in uploads:
                upload.sendall(body[number : number + 1])
            requests = [Request("GET", DAGS, token=each) for each in tokens[4 * number : 4 * number + 4]]
            result = send(patched.url, requests, deadline=PATIENCE)
            assert not result.failures, result.outcomes
        assert comes_to((0, 0), lambda: (gauges(patched)["waiting"], gauges(patched)["in_flight"])) == (0, 0)
        assert readers[0].recv(12) == b"HTTP/1.1 200"  # the response started and is not read completely
    assert idle(patched)


def test_streams_and_long_polls_do_not_starve_others(patched: Server):
    token, *tokens = patched.tokens(21)
    made = httpx.post(
        f"{patched.url}/api/v2/dags/small_099/dagRuns",
        json={"dag_run_id": "polled", "logical_date": None},
        headers={"Authorization": f"Bearer {token}"},
        timeout=PATIENCE,
        trust_env=False,
    )
    assert made.status_code == 200
    poll = "/api/v2/dags/small_099/dagRuns/polled/wait?interval=0.5"
    grid = "/ui/grid/ti_summaries/small_099?" + "&".join(["run_ids=polled"] * 200)
    chunks: Counter[str] = Counter()
    stop, lock = threading.Event(), threading.Lock()

    def read(path: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.stream("GET", f"{patched.url}{path}", headers=headers, timeout=PATIENCE) as response:
            for _ in response.iter_lines():
                with lock:
                    chunks[path] += 1
                if stop.is_set():
                    return

    with ThreadPoolExecutor(50) as pool:
        readers = [pool.submit(read, path) for path in [poll] * 25 + [grid] * 25]
        try:
            # Both kinds of streams are active, and continue while other requests get responses.
            assert comes_to(True, lambda: chunks[poll] > 25 and chunks[grid] > 50)
            before = dict(chunks)
            for number in range(5):
                requests = [Request("GET", DAGS, token=each) for each in tokens[4 * number : 4 * number + 4]]
                result = send(patched.url, requests, deadline=PATIENCE)
                assert not result.failures, result.outcomes
            assert comes_to(True, lambda: all(chunks[path] > before[path] for path in before))
        finally:
            stop.set()
        for reader in readers:
            reader.result(PATIENCE)
    assert idle(patched)


def test_client_that_disconnects_leaves_the_queue(patched: Server):
    token = patched.token()
    with busy(patched, LIMIT, LIMIT):
        clients = [connect(patched, f"GET {DAGS} HTTP/1.1", token=token) for _ in range(30)]
        assert comes_to(30, lambda: gauges(patched)["waiting"]) == 30
        for client in clients:
            client.close()
        assert comes_to(0, lambda: gauges(patched)["waiting"]) == 0
    assert idle(patched)


@pytest.mark.parametrize("count", [2000, pytest.param(10000, marks=pytest.mark.slow)])
def test_all_slots_are_free_after_many_mixed_requests(patched: Server, count: int):
    chance = random.Random(14)
    token = patched.token()
    kinds = ["nothing"] * 60 + ["anonymous"] * 20 + ["version"] * 8 + ["dags"] * 2 + ["leaves"] * 10
    left = iter(chance.choices(kinds, k=count))
    ended: Counter[str] = Counter()

    async def leave(client: httpx.AsyncClient) -> str:
        task = asyncio.create_task(client.get(DAGS, headers={"Authorization": f"Bearer {token}"}))
        await asyncio.sleep(chance.random() / 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return "left"

    async def work(client: httpx.AsyncClient) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        paths = {"nothing": "/api/v2/nothing", "anonymous": DAGS, "version": "/api/v2/version", "dags": DAGS}
        for kind in left:
            if kind == "leaves":
                outcome = await leave(client)
            else:
                sent = headers if kind == "dags" else {}
                outcome = str((await client.get(paths[kind], headers=sent)).status_code)
            ended[f"{kind} {outcome}"] += 1
            if sum(ended.values()) in (600, 1200):
                patched.database.kill_connections(patched.name)

    async def run() -> None:
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=patched.url, limits=limits, timeout=PATIENCE, trust_env=False
        ) as client:
            await asyncio.gather(*(work(client) for _ in range(50)))

    asyncio.run(run())
    assert sum(ended.values()) == count
    assert not [outcome for outcome in ended if outcome.startswith("nothing") and outcome != "nothing 404"]
    assert idle(patched), ended


def test_no_request_runs_twice(patched: Server):
    keys = [f"once_{number}" for number in range(30)]
    requests = [
        Request("POST", "/api/v2/variables", 201, token=token, json={"key": key, "value": "1"})
        for key, token in zip(keys, patched.tokens(len(keys)), strict=True)
    ]
    result = send(patched.url, requests, deadline=PATIENCE)
    assert not result.failures, result.outcomes
    logs = get(patched, "/api/v2/eventLogs?event=post_variable&limit=100", patched.token(), PATIENCE).json()
    written = Counter(each["extra"] for each in logs["event_logs"])
    assert sum(count for extra, count in written.items() if "once_" in extra) == len(keys)


def test_logout_still_revokes_the_token(stock: Server, patched: Server):
    assert not logout.log_out(stock, stock).failed
    seen = logout.log_out(patched, patched)
    assert not seen.failed, seen.sees


def test_all_requests_that_exceed_the_pool_get_a_response(stock: Server, patched: Server):
    failed = {}
    # The stock server hangs for pool_timeout, so a longer deadline is sufficient.
    for server, deadline in ((stock, 20), (patched, 2 * PATIENCE)):
        requests = [Request("GET", DAGS, token=token) for token in server.tokens(300)]
        mark = server.log_size()
        result = send(server.url, requests, deadline=deadline, concurrency=30)
        failed[server.name] = len(result.failures), pool_timeouts(server.log_since(mark))
    assert failed["patched"] == (0, 0)
    assert any(failed["stock"]), failed


@pytest.mark.parametrize(("form", "value"), [("patch", "6"), ("plugin", "many")])
def test_invalid_limit_stops_the_server_at_start(make: Make, form: str, value: str):
    settings = Settings(
        pool_size=3, max_overflow=2, max_concurrent_requests=value, admission_plugin=form == "plugin"
    )
    with make("patch" if form == "patch" else "stock", "wrong", settings) as server:
        with pytest.raises(Problem, match=r"max_concurrent_requests.*(Use 0 for no limit|Current value)"):
            server.wait()


@pytest.mark.operator_task(15, "Run a server with the plugin", "`plugin`")
def test_plugin_limits_a_stock_server(make: Make):
    settings = Settings(3, 2, 5, admission_plugin=True, probes=("admission_watch",))
    with make("stock", "with_plugin", settings) as server:
        server.wait()
        with busy(server, 10, LIMIT) as sent:
            assert all(answers(server, path) for path in LIVENESS)
        assert [each.result().status_code for each in sent] == [200] * 10
        assert idle(server)


def test_limit_that_is_installed_twice_applies_once(make: Make, project, tmp_path, monkeypatch):
    shutil.copy(preparation.PROBES / "admission_watch.py", tmp_path)
    for name in ("admission_one", "admission_two"):
        (tmp_path / f"{name}.py").write_text(plugin.source(project))
    monkeypatch.setattr(preparation, "PROBES", tmp_path)
    settings = Settings(3, 2, 5, probes=("admission_watch", "admission_one", "admission_two"))
    used_once(make("stock", "twice", settings), "The request admission plugin is installed twice: remove")


def test_plugin_is_inactive_on_a_patched_server(make: Make):
    settings = Settings(3, 2, 5, admission_plugin=True, probes=("admission_watch",))
    used_once(make("patch", "both", settings), "This Airflow limits its requests itself")


def used_once(server: Server, message: str) -> None:
    with server:
        server.wait()
        assert message in server.log_since()
        with busy(server, 5, LIMIT) as sent:
            assert gauges(server)["in_flight"] == LIMIT
        assert [each.result().status_code for each in sent] == [200] * 5
