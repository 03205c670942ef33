# Licensed to the Apache Software Foundation (ASF) under one
# or more contributor license agreements.  See the NOTICE file
# distributed with this work for additional information
# regarding copyright ownership.  The ASF licenses this file
# to you under the Apache License, Version 2.0 (the
# "License"); you may not use this file except in compliance
# with the License.  You may obtain a copy of the License at
#
#   http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing,
# software distributed under the License is distributed on an
# "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
# KIND, either express or implied.  See the License for the
# specific language governing permissions and limitations
# under the License.
from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, contextmanager
from unittest import mock

import anyio.to_thread
import httpx
import pytest
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import create_engine, select
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import AssertionPool, NullPool, QueuePool, SingletonThreadPool, StaticPool

from airflow import settings
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.exceptions import AirflowConfigException
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

SIMPLE_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
OPTION = ("api", "max_concurrent_requests")
CORE = "/api/v2/dags"
EXECUTION = "/execution/task-instances/1/heartbeat"
CONNECTIONS = 2
FOREVER = 3600.0
PATIENCE = 10


@pytest.fixture
def use_pool(monkeypatch):
    """Return a function that gives Airflow's sessions an engine with another pool."""
    engines = []

    def use(poolclass=QueuePool, **arguments):
        engine = create_engine(
            settings.engine.url,
            poolclass=poolclass,
            connect_args={"check_same_thread": False},
            **arguments,
        )
        engines.append(engine)
        monkeypatch.setattr(settings, "engine", engine)
        monkeypatch.setattr(settings, "NonScopedSession", sessionmaker(engine))
        return engine

    yield use
    for engine in engines:
        engine.dispose()


asking: list[None] = []


@contextmanager
def timeout_of_pool(threads):
    """Let the wait for a connection time out as soon as it is hopeless: when every thread waits for one."""
    asking.append(None)
    try:
        if len(asking) == threads and settings.engine.pool.checkedout() == CONNECTIONS:
            raise PoolTimeoutError
        yield
    finally:
        asking.pop()


def connection(request: Request):
    """Hold a connection from one hop to the thread pool to the next, as most routes do."""
    with create_session(scoped=False) as session:
        with timeout_of_pool(getattr(request.app.state, "threads", None)):
            session.execute(select(1))
        request.state.session = session
        yield


def probe(request: Request):
    return request.state.session.scalar(select(2))


async def echo(request: Request):
    return {"body": (await request.body()).decode(), "disconnected": await request.is_disconnected()}


def chunks():
    return StreamingResponse(str(number) for number in range(3))


def make_app(apps="all"):
    purge_cached_app()
    with conf_vars({("core", "auth_manager"): SIMPLE_AUTH_MANAGER}):
        app = create_app(apps=apps)
    for path, route in (("/probe", probe), ("/execution/probe", probe), ("/echo", echo), ("/chunks", chunks)):
        holds = [Depends(connection)] if route is probe else []
        app.add_api_route(path, route, methods=["GET", "POST"], dependencies=holds)
        # Before the route of the UI, which matches every path.
        app.router.routes.insert(0, app.router.routes.pop())
    return app


@asynccontextmanager
async def client_of(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


@pytest.mark.parametrize("path", ["/probe", "/execution/probe"])
async def test_requests_that_exceed_the_pool_are_answered(use_pool, path):
    use_pool(pool_size=1, max_overflow=CONNECTIONS - 1)
    app = make_app()
    # Fewer threads than requests: those that hold a connection must get one again.
    app.state.threads = anyio.to_thread.current_default_thread_limiter().total_tokens = CONNECTIONS + 1
    async with client_of(app) as client:
        responses = await asyncio.gather(*(client.get(path) for _ in range(8)))
    assert [response.status_code for response in responses] == [200] * 8


async def test_body_reaches_the_route_whole():
    async def body():
        for _ in range(50):
            yield b"x" * 1000

    async with client_of(make_app()) as client:
        response = await client.post("/echo", content=body())
    assert response.json() == {"body": "x" * 50_000, "disconnected": False}


async def test_stream_reaches_the_client_whole():
    async with client_of(make_app()) as client:
        assert (await client.get("/chunks")).text == "012"


@pytest.fixture
def admission():
    from airflow.api_fastapi.common import request_admission

    return request_admission


class Client:
    """A request whose body, whose reading of the response and whose disconnect come when the test says so."""

    def __init__(self, path=CORE, *, root_path="", body=(b"",), reads=True):
        self.scope = {"type": "http", "method": "POST", "path": path, "root_path": root_path, "headers": []}
        self.body = asyncio.Queue()
        for number, part in enumerate(body, 1):
            self.upload(part, more=number < len(body))
        self.reads = asyncio.Event()
        if reads:
            self.reads.set()
        self.sent = []
        self.status = self.headers = None

    def upload(self, part, *, more):
        self.body.put_nowait({"type": "http.request", "body": part, "more_body": more})

    def disconnect(self):
        self.body.put_nowait({"type": "http.disconnect"})

    async def receive(self):
        return await self.body.get()

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        self.sent.append(message)
        await self.reads.wait()

    def ask(self, app):
        return asyncio.create_task(app(self.scope, self.receive, self.send))


class App:
    """Answer each request when it is told to, and count those under way."""

    def __init__(self):
        self.under_way = []
        self.most = 0
        self.bodies = []
        self.go = asyncio.Semaphore(0)
        self.error = None

    async def __call__(self, scope, receive, send):
        self.under_way.append(scope["path"])
        self.most = max(self.most, len(self.under_way))
        try:
            message = await receive()
            self.bodies.append(message["body"])
            await self.go.acquire()
            if self.error:
                raise self.error
        finally:
            self.under_way.remove(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def settle():
    """Let every task run until it waits for something that only the test can give."""
    for _ in range(50):
        await asyncio.sleep(0)


async def ends(*tasks):
    for task in tasks:
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()
        task.result()


async def is_free(middleware, app, path=CORE):
    """Check that a request is admitted at once and answered."""
    client = Client(path)
    task = client.ask(middleware)
    await settle()
    assert app.under_way == [path]
    app.go.release()
    await ends(task)
    return client.status == 200


async def test_no_more_requests_than_the_limit_are_under_way(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=2, timeout=FOREVER)
    clients = [Client() for _ in range(5)]
    tasks = [client.ask(middleware) for client in clients]
    for _ in clients:
        await settle()
        app.go.release()
    await ends(*tasks)
    assert app.most == 2
    assert [client.status for client in clients] == [200] * 5


async def test_requests_are_admitted_in_their_order(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    clients = [Client(body=(str(number).encode(),)) for number in range(4)]
    tasks = [client.ask(middleware) for client in clients]
    for _ in clients:
        await settle()
        app.go.release()
    await ends(*tasks)
    assert app.bodies == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize(("held", "free"), [(CORE, EXECUTION), (EXECUTION, CORE)])
async def test_core_and_execution_api_have_slots_of_their_own(admission, held, free):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    tasks = [Client(held).ask(middleware) for _ in range(2)]
    await settle()
    tasks.append(Client(free).ask(middleware))
    await settle()
    assert sorted(app.under_way) == sorted([held, free])
    for _ in tasks:
        app.go.release()
    await ends(*tasks)


@pytest.mark.parametrize("root_path", ["", "/airflow"])
@pytest.mark.parametrize(
    "path", ["/api/v2/version", "/api/v2/monitor/health", "/execution/health", "/static/index.js"]
)
async def test_liveness_endpoints_and_files_need_no_slot(admission, path, root_path):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    tasks = [Client(held).ask(middleware) for held in (CORE, EXECUTION)]
    await settle()
    tasks.append(Client(root_path + path, root_path=root_path).ask(middleware))
    await settle()
    assert root_path + path in app.under_way
    for _ in tasks:
        app.go.release()
    await ends(*tasks)


async def test_other_scopes_are_passed_on(admission):
    seen = []

    async def app(scope, receive, send):
        seen.append(receive)

    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    client = Client()
    client.disconnect()
    await middleware({"type": "lifespan"}, client.receive, client.send)
    assert seen == [client.receive]


async def test_slow_upload_holds_no_slot(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    slow = Client(body=())
    slow.upload(b"a", more=True)
    task = slow.ask(middleware)
    await settle()
    assert await is_free(middleware, app)
    slow.upload(b"b", more=False)
    app.go.release()
    await ends(task)
    assert slow.status == 200


async def test_client_that_disconnects_while_it_uploads_holds_no_slot(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    gone = Client(body=())
    gone.upload(b"a", more=True)
    task = gone.ask(middleware)
    gone.disconnect()
    await settle()
    app.go.release()
    await ends(task)
    assert app.bodies == []


async def test_slow_reader_holds_no_slot(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    slow = Client(reads=False)
    task = slow.ask(middleware)
    app.go.release()
    await settle()
    assert slow.status == 200
    assert not task.done()
    assert await is_free(middleware, app)
    slow.reads.set()
    await ends(task)


async def test_client_that_disconnects_while_it_waits_leaves_the_queue(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    first, gone, last = Client(body=(b"first",)), Client(body=(b"gone",)), Client(body=(b"last",))
    tasks = [client.ask(middleware) for client in (first, gone, last)]
    await settle()
    gone.disconnect()
    await settle()
    assert tasks[1].done()
    assert middleware.core.waiting == 1
    app.go.release()
    await settle()
    app.go.release()
    await ends(*tasks)
    assert app.bodies == [b"first", b"last"]


@pytest.mark.parametrize("waits", [False, True], ids=["running", "waiting"])
async def test_cancelled_request_gives_its_slot_back(admission, waits):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    tasks = [Client().ask(middleware) for _ in range(1 + waits)]
    await settle()
    tasks.pop().cancel()
    await settle()
    for _ in tasks:
        app.go.release()
    await ends(*tasks)
    assert await is_free(middleware, app)


async def test_request_that_is_cancelled_just_when_it_is_admitted_gives_its_slot_back(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    first, second = (Client().ask(middleware) for _ in range(2))
    await settle()
    # The loop runs the tasks in this order: the slot is handed over, then the one who gets it is cancelled.
    first.cancel()
    await asyncio.sleep(0)
    second.cancel()
    await settle()
    assert second.cancelled()
    assert await is_free(middleware, app)


def test_event_loops_may_use_one_app_in_turn(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)

    async def contend():
        app.go = asyncio.Semaphore(0)
        tasks = [Client().ask(middleware) for _ in range(2)]
        for _ in tasks:
            await settle()
            app.go.release()
        await ends(*tasks)

    for _ in range(2):
        asyncio.run(contend())
    assert len(app.bodies) == 4


async def test_failing_request_gives_its_slot_back(admission):
    app = App()
    app.error = LookupError("a fault")
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    task = Client().ask(middleware)
    app.go.release()
    with pytest.raises(LookupError):
        await ends(task)
    app.error = None
    assert await is_free(middleware, app)


async def test_request_that_waits_too_long_gets_503(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=0)
    task = Client().ask(middleware)
    await settle()
    late = Client()
    with mock.patch.object(admission, "stats", spec=["incr", "gauge"]) as stats:
        await ends(late.ask(middleware))
    assert (late.status, late.headers[b"retry-after"]) == (503, b"5")
    stats.incr.assert_called_once_with("api_server.request_admission.rejected")
    app.go.release()
    await ends(task)
    assert len(app.bodies) == 1
    assert await is_free(middleware, app)


async def test_gauges_count_requests_that_wait_and_that_are_in_flight(admission):
    app = App()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    with mock.patch.object(admission, "stats", spec=["incr", "gauge"]) as stats:

        def gauges():
            values = {call.args[0].rpartition(".")[2]: call.args[1] for call in stats.gauge.call_args_list}
            return values["waiting"], values["in_flight"]

        tasks = [Client().ask(middleware) for _ in range(3)]
        await settle()
        assert gauges() == (2, 1)
        for left in ((1, 1), (0, 1), (0, 0)):
            app.go.release()
            await settle()
            assert gauges() == left
        await ends(*tasks)


class Streams:
    """Answer with a stream whose chunks the test asks for."""

    headers = [(b"content-type", b"application/x-ndjson")]

    def __init__(self):
        self.producing = []
        self.go = {}

    async def __call__(self, scope, receive, send):
        name = scope["path"]
        chunks = self.go.setdefault(name, asyncio.Queue())
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        more = True
        while more:
            self.producing.append(name)
            more = await chunks.get()
            self.producing.remove(name)
            await send({"type": "http.response.body", "body": b"chunk", "more_body": more})


async def test_stream_waits_for_a_slot_before_each_chunk(admission, monkeypatch):
    monkeypatch.setattr(admission, "_STREAM_TURN", FOREVER)
    app = Streams()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    clients = [Client("/one"), Client("/two")]
    tasks = [client.ask(middleware) for client in clients]
    await settle()
    assert app.producing == ["/one"]
    for name, then in (("/one", "/two"), ("/two", "/one")):
        app.go[name].put_nowait(True)
        await settle()
        assert app.producing == [then]
    for name in ("/one", "/two"):
        app.go[name].put_nowait(False)
        await settle()
    await ends(*tasks)
    assert [len(client.sent) for client in clients] == [3, 3]


@pytest.mark.parametrize(
    "header", [(b"Content-Length", b"15"), (b"Content-Type", b"application/json; charset=utf-8")]
)
async def test_response_that_is_complete_takes_no_slot_for_its_parts(admission, monkeypatch, header):
    monkeypatch.setattr(admission, "_STREAM_TURN", FOREVER)
    app = Streams()
    app.headers = [header]
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    tasks = [Client(name).ask(middleware) for name in ("/one", "/two", "/three")]
    await settle()
    assert app.producing == ["/one", "/two", "/three"]
    for chunks in app.go.values():
        chunks.put_nowait(False)
    await ends(*tasks)


@pytest.fixture
async def timers():
    """Keep the timers of the middleware, for the test to run."""
    started = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def keep(delay, callback, *args):
        return call_later(delay, callback, *args) if args else started.append((delay, callback))

    with mock.patch.object(loop, "call_later", keep):
        yield started


async def test_stream_that_takes_long_for_a_chunk_gives_its_slot_back(admission, timers):
    app = Streams()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    tasks = [Client(name).ask(middleware) for name in ("/one", "/two")]
    await settle()
    assert app.producing == ["/one"]
    assert [delay for delay, _ in timers] == [0.1]
    timers[0][1]()
    await settle()
    assert app.producing == ["/one", "/two"]
    for name in ("/one", "/two"):
        app.go[name].put_nowait(False)
    await ends(*tasks)


async def test_turn_that_has_ended_takes_no_slot_from_the_next(admission, timers):
    app = Streams()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    tasks = [Client("/one").ask(middleware)]
    await settle()
    app.go["/one"].put_nowait(True)
    await settle()
    (_, end_first_turn), _ = timers
    end_first_turn()  # while the second chunk is produced
    tasks.append(Client("/two").ask(middleware))
    await settle()
    assert app.producing == ["/one"]
    for name in ("/one", "/two"):
        app.go.setdefault(name, asyncio.Queue()).put_nowait(False)
        await settle()
    await ends(*tasks)


async def test_streams_and_other_requests_do_not_wait_for_each_other(admission, monkeypatch):
    monkeypatch.setattr(admission, "_STREAM_TURN", FOREVER)
    streams, app = Streams(), App()

    async def both(scope, receive, send):
        await (streams if scope["path"] == "/stream" else app)(scope, receive, send)

    middleware = admission.RequestAdmissionMiddleware(both, limit=1, timeout=FOREVER)
    stream = Client("/stream")
    task = stream.ask(middleware)
    await settle()
    assert streams.producing == ["/stream"]
    assert await is_free(middleware, app)
    streams.go["/stream"].put_nowait(False)
    await ends(task)


async def test_slow_reader_of_a_stream_holds_no_slot(admission, monkeypatch):
    monkeypatch.setattr(admission, "_STREAM_TURN", FOREVER)
    app = Streams()
    middleware = admission.RequestAdmissionMiddleware(app, limit=1, timeout=FOREVER)
    slow, other = Client("/one"), Client("/two")
    tasks = [slow.ask(middleware)]
    await settle()
    slow.reads.clear()
    app.go["/one"].put_nowait(True)
    await settle()
    tasks.append(other.ask(middleware))
    await settle()
    assert app.producing == ["/two"]
    app.go["/two"].put_nowait(False)
    slow.reads.set()
    await settle()
    app.go["/one"].put_nowait(False)
    await ends(*tasks)


async def test_slots_are_all_there_after_faults_of_every_kind(admission):
    chance = random.Random(14)
    limit = 3

    async def app(scope, receive, send):
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if scope["path"] == "/fails":
            raise LookupError("a fault")
        streams = scope["path"] == "/streams"
        headers = [] if streams else [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for left in range(2 * streams, -1, -1):
            await send({"type": "http.response.body", "body": b"", "more_body": bool(left)})

    middleware = admission.RequestAdmissionMiddleware(app, limit=limit, timeout=FOREVER)
    for _ in range(100):
        clients = [Client(chance.choice(["/ok", "/fails", "/streams", EXECUTION])) for _ in range(20)]
        tasks = [client.ask(middleware) for client in clients]
        for _ in range(5):
            chance.choice(clients).disconnect()
            chance.choice(tasks).cancel()
            await asyncio.sleep(0)
        _, pending = await asyncio.wait(tasks, timeout=PATIENCE)
        assert not pending
    for slots in (middleware.core, middleware.execution, middleware.streams):
        assert (slots.free, slots.waiting) == (limit, 0)


@pytest.mark.parametrize(
    ("pool", "limit"),
    [
        pytest.param({"pool_size": 5, "max_overflow": 10}, 7, id="default"),
        pytest.param({"pool_size": 3, "max_overflow": 2}, 2, id="small"),
        pytest.param({"pool_size": 4, "max_overflow": 0}, 1, id="even"),
        pytest.param({"pool_size": 1, "max_overflow": 0}, 1, id="one"),
        pytest.param({"pool_size": 5, "max_overflow": -1}, None, id="unlimited overflow"),
        pytest.param({"pool_size": 0}, None, id="unlimited size"),
        pytest.param({"poolclass": NullPool}, None, id="NullPool"),
        pytest.param({"poolclass": StaticPool}, None, id="StaticPool"),
        pytest.param({"poolclass": SingletonThreadPool}, None, id="SingletonThreadPool"),
    ],
)
def test_default_leaves_a_connection_free(admission, use_pool, pool, limit):
    use_pool(**pool)
    with conf_vars({OPTION: None}), mock.patch.object(admission, "log", autospec=True) as log:
        assert admission.get_limits().get("limit") == limit
    log.warning.assert_not_called()


def test_unknown_pool_has_no_limit_and_a_warning(admission, use_pool):
    use_pool(AssertionPool)
    with conf_vars({OPTION: None}), mock.patch.object(admission, "log", autospec=True) as log:
        assert admission.get_limits() == {}
    log.warning.assert_called_once()


@pytest.mark.parametrize(("value", "limit"), [("0", None), ("1", 1), ("5", 5)])
def test_configured_limit(admission, use_pool, value, limit):
    use_pool(pool_size=3, max_overflow=2)
    with conf_vars({OPTION: value}):
        assert admission.get_limits().get("limit") == limit


@pytest.mark.parametrize(
    ("pool", "value"),
    [
        ({"pool_size": 3, "max_overflow": 2}, "-1"),
        ({"pool_size": 3, "max_overflow": 2}, "6"),
        ({"pool_size": 3, "max_overflow": 2}, "many"),
        ({"poolclass": NullPool}, "-1"),
    ],
)
def test_wrong_limit_is_refused(admission, use_pool, pool, value):
    use_pool(**pool)
    with conf_vars({OPTION: value}), pytest.raises(AirflowConfigException, match="max_concurrent_requests"):
        admission.get_limits()


def test_api_server_does_not_start_with_a_wrong_limit(admission):
    with conf_vars({OPTION: "many"}), pytest.raises(AirflowConfigException, match="max_concurrent_requests"):
        make_app()


def test_large_limit_is_taken_where_the_pool_has_none(admission, use_pool):
    use_pool(NullPool)
    with conf_vars({OPTION: "500"}):
        assert admission.get_limits()["limit"] == 500


def test_request_waits_as_long_as_for_a_connection(admission, use_pool):
    use_pool(pool_size=3, max_overflow=2, pool_timeout=7)
    assert admission.get_limits()["timeout"] == 7


@pytest.mark.parametrize("apps", ["all", "core", "execution"])
def test_every_api_server_has_the_limit_once(admission, use_pool, apps):
    use_pool(pool_size=3, max_overflow=2)
    classes = [middleware.cls for middleware in make_app(apps).user_middleware]
    assert classes.count(admission.RequestAdmissionMiddleware) == 1


def test_no_limit_adds_no_middleware(admission, use_pool):
    use_pool(NullPool)
    classes = [middleware.cls for middleware in make_app().user_middleware]
    assert admission.RequestAdmissionMiddleware not in classes


def test_limit_is_outside_what_uses_the_database(admission, use_pool):
    use_pool(pool_size=3, max_overflow=2)
    names = [middleware.cls.__name__ for middleware in make_app().user_middleware]
    inside = names[names.index("RequestAdmissionMiddleware") + 1 :]
    # Neither is in every release.
    assert {"JWTRefreshMiddleware", "SimpleAllAdminMiddleware"} & set(names) <= set(inside)
