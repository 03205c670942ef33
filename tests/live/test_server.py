"""Preparing, booting and stopping a server, with a small web server instead of Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import psutil
import pytest

from airflow_auth_patches.demo.preparation import USER, Keys, Preparation, Settings
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.util.errors import Problem

Fake = Callable[[str], Environment]


class Database:
    """A database server that records the names of its databases, and the calls of `kill_connections`."""

    product = "PostgreSQL"
    variables = {"PYTHONPATH": "/some/where"}

    def __init__(self) -> None:
        self.names: list[str] = []
        self.killed: list[str] = []

    def url(self, name: str) -> str:
        return f"db://{name}"

    def async_url(self, name: str) -> str:
        return f"async-db://{name}"

    def create(self, name: str, template: str | None = None) -> None:
        self.names.append(f"{name} from {template}" if template else name)

    def drop(self, name: str) -> None:
        self.names = [each for each in self.names if each.partition(" ")[0] != name]

    def kill_connections(self, name: str) -> int:
        self.killed.append(name)
        return 0


@pytest.fixture
def prepared(tmp_path: Path) -> Preparation:
    """Return a preparation whose database exists already."""
    folder = tmp_path / "pair"
    folder.mkdir()
    return Preparation(Environment(tmp_path / "unused"), Database(), "base", folder, Keys())


@pytest.fixture
def serve(fake: Fake, prepared: Preparation, tmp_path: Path) -> Callable[..., Server]:
    def make(mode: str, settings: Settings | None = None) -> Server:
        return Server(
            fake(mode),
            "3.1.6+3.3.0",
            "one",
            prepared=prepared,
            settings=settings or Settings(),
            log=tmp_path / "server.log",
        )

    return make


def test_server_runs_until_end_of_block(fifo: Any, serve: Callable[..., Server]) -> None:
    with serve("serves") as server:
        assert server.wait() is server
        assert server.healthy()
    assert not server.log_since().startswith("Traceback")
    fifo.wait_closed()


def test_database_is_a_copy_that_is_removed_at_end(
    prepared: Preparation, serve: Callable[..., Server]
) -> None:
    database = prepared.database
    with serve("serves"):
        assert database.names == ["one from base"]
    assert database.names == []


def test_boots_with_settings_of_bug_reports(
    serve: Callable[..., Server], prepared: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AIRFLOW_HOME", "AIRFLOW__CORE__EXECUTOR", "PYTHONPATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "user value")
    with serve("serves", Settings(pool_timeout=5, user_cache_ttl=0)) as server:
        server.wait()
        seen = json.loads((prepared.folder / "one" / "environment.json").read_text())
    database = {
        key.removeprefix("AIRFLOW__DATABASE__SQL_ALCHEMY_"): value
        for key, value in seen.items()
        if key.startswith("AIRFLOW__DATABASE__")
    }
    assert database == {
        "CONN": prepared.database.url("one"),
        "CONN_ASYNC": prepared.database.async_url("one"),
        "POOL_SIZE": "3",
        "MAX_OVERFLOW": "2",
        "POOL_RECYCLE": "60",
        "POOL_PRE_PING": "True",
        "ENGINE_ARGS": '{"pool_timeout": 5}',
    }
    assert seen["AIRFLOW__FAB__CACHE_TTL"] == "0"
    assert seen["AIRFLOW__CORE__AUTH_MANAGER"].endswith("FabAuthManager")
    assert len(seen["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    assert seen["AIRFLOW_HOME"] == str(prepared.folder / "one")
    assert not any(value == "user value" for value in seen.values())
    assert seen["PYTHONPATH"] == "/some/where"


def test_sets_cache_lifetimes_only_if_given() -> None:
    for name, variable in (
        ("user_cache_ttl", "AIRFLOW__FAB__CACHE_TTL"),
        ("revocation_cache_ttl", "AIRFLOW__API_AUTH__REVOKED_TOKEN_CACHE_TTL_SECONDS"),
    ):
        assert variable not in Settings().variables()
        assert Settings(**{name: 0}).variables()[variable] == "0"  # type: ignore[arg-type]


def test_sets_public_role_only_if_given() -> None:
    variable = "AIRFLOW__FAB__AUTH_ROLE_PUBLIC"
    assert variable not in Settings().variables()
    assert Settings(public_role="Viewer").variables()[variable] == "Viewer"


def test_sets_session_backend_only_if_given() -> None:
    assert "AIRFLOW__FAB__SESSION_BACKEND" not in Settings().variables()
    variables = Settings(session_backend="securecookie").variables()
    assert variables["AIRFLOW__FAB__SESSION_BACKEND"] == "securecookie"


def test_memory_contains_child_processes_and_is_zero_after_stop(serve: Callable[..., Server]) -> None:
    with serve("serves") as server:
        server.wait()
        processes = psutil.Process().children(recursive=True)
        assert len(processes) >= 3  # the manager of the process, the server and its child

        def together() -> int:
            return sum(each.memory_info().rss for each in processes)

        # The child may still be starting.
        assert together() * 0.9 <= server.memory() <= together() * 1.1
        server.stop()
        assert server.memory() == 0


def test_reports_log_of_server_that_ends_at_boot(serve: Callable[..., Server]) -> None:
    with serve("dies") as server:
        with pytest.raises(Problem, match=r"(?s)API server of 3\.1\.6\+3\.3\.0 ended:.*it cannot go on"):
            server.wait()


def test_stops_server_that_does_not_respond(fifo: Any, serve: Callable[..., Server]) -> None:
    with serve("silent") as server:
        fifo.read_line()
        with pytest.raises(Problem, match="did not respond within 0 s"):
            server.wait(0)
        fifo.wait_closed()


def test_kills_server_that_ignores_stop_signal(fifo: Any, serve: Callable[..., Server]) -> None:
    with serve("stubborn") as server:
        server.wait()
    fifo.wait_closed()


def test_restart_keeps_address(prepared: Preparation, serve: Callable[..., Server]) -> None:
    with serve("serves") as server:
        url = server.wait().url
        server.restart()
        assert server.url == url
        assert server.healthy()
        assert server.log_since().count("serving") == 2
    assert prepared.database.killed == ["one"]


def test_installs_probes_of_settings(serve: Callable[..., Server], prepared: Preparation) -> None:
    plugins = prepared.folder / "one" / "plugins"
    with serve("serves", Settings(probes=("loop_watch", "no_check"))) as server:
        server.wait()
        seen = json.loads((prepared.folder / "one" / "environment.json").read_text())
        assert {path.name for path in plugins.iterdir()} == {"loop_watch.py", "no_check.py"}
        assert seen["AIRFLOW__CORE__PLUGINS_FOLDER"] == str(plugins)
    with serve("stubborn") as server:
        server.wait()
        assert list(plugins.iterdir()) == []


def test_sibling_shares_only_the_database(
    fifo: Any, serve: Callable[..., Server], prepared: Preparation
) -> None:
    database = prepared.database
    with serve("serves", Settings(pool_timeout=5)) as server:
        server.wait()
        with server.sibling("other", probes=("no_check",)) as other:
            assert other.wait().url != server.url
            seen = json.loads((prepared.folder / "one-other" / "environment.json").read_text())
            assert seen["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == database.url("one")
            assert seen["AIRFLOW__DATABASE__SQL_ALCHEMY_ENGINE_ARGS"] == '{"pool_timeout": 5}'
            assert seen["AIRFLOW_HOME"] == str(prepared.folder / "one-other")
            assert [path.name for path in (prepared.folder / "one-other" / "plugins").iterdir()] == [
                "no_check.py"
            ]
            assert list((prepared.folder / "one" / "plugins").iterdir()) == []
            assert other.log == server.log.with_name("server-other.log")
            other.restart()
            assert database.killed == []
        assert database.names == ["one from base"]
        assert server.healthy()
    assert database.names == []
    fifo.wait_closed()


def test_sibling_can_have_other_settings(serve: Callable[..., Server]) -> None:
    server = serve("serves", Settings(probes=("loop_watch",)))
    assert server.sibling().settings == server.settings
    other = Settings(revocation_cache_ttl=0)
    assert server.sibling(settings=other).settings == other
    assert server.sibling(settings=other, probes=("no_check",)).settings == Settings(
        revocation_cache_ttl=0, probes=("no_check",)
    )


def test_runs_program_with_configuration_of_server(
    serve: Callable[..., Server], prepared: Preparation, tmp_path: Path
) -> None:
    program = tmp_path / "note.py"
    with serve("serves") as server:
        server._environment.python.write_text('#!/bin/sh\nshift; echo "$@" > output; env >> output\n')
        server.run(program, "a", "b")
        output = (prepared.folder / "one-note" / "output").read_text().splitlines()
        assert output[0] == "a b"
        assert f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN={prepared.database.url('one')}" in output
        server._environment.python.write_text("#!/bin/sh\necho no such table; exit 1\n")
        with pytest.raises(Problem, match=r"(?s)note for 3\.1\.6\+3\.3\.0 failed.*no such table"):
            server.run(program)


def test_reads_log_from_position(serve: Callable[..., Server]) -> None:
    with serve("serves") as server:
        server.wait()
        mark = server.log_size()
        assert "serving" in server.log_since()
        server.token()
        assert "POST /auth/token" in server.log_since(mark)
        assert "serving" not in server.log_since(mark)


def test_tokens_differ_only_in_their_id(prepared: Preparation, serve: Callable[..., Server]) -> None:
    with serve("serves") as server:
        server.wait()
        tokens = server.tokens(5)
    claims = [jwt.decode(token, prepared.keys.jwt, algorithms=["HS512"]) for token in tokens]
    ids = {each.pop("jti") for each in claims}
    assert len(ids) == 5
    assert "first" not in ids
    assert len({json.dumps(each) for each in claims}) == 1
    assert {jwt.get_unverified_header(token)["kid"] for token in tokens} == {"not-used"}


def test_tokens_use_users_in_turn(prepared: Preparation, serve: Callable[..., Server]) -> None:
    with serve("serves") as server:
        server.wait()
        tokens = server.tokens(3, users=[7, 8])
    claims = [jwt.decode(token, prepared.keys.jwt, algorithms=["HS512"]) for token in tokens]
    assert [each["sub"] for each in claims] == ["7", "8", "7"]
    assert len({each["jti"] for each in claims}) == 3


def test_refused_token_raises_problem(serve: Callable[..., Server]) -> None:
    with serve("refuses") as server:
        server.wait()
        with pytest.raises(Problem, match="returned 403 to a single token request"):
            server.token()


def test_preparation_creates_tables_user_and_dags(fake: Fake, tmp_path: Path) -> None:
    environment = fake("serves")
    environment.python.write_text("#!/bin/sh\nshift; printf '%s\\n' \"$@\"\n")
    with Preparation(environment, Database(), "base", tmp_path / "pair", Keys()) as made:
        made.wait()
    commands = (tmp_path / "pair" / "prepare.log").read_text().splitlines()
    user = f"-u {USER['username']} -p {USER['password']} -f Ada -l Admin -r Admin -e admin@example.invalid"
    assert commands == ["db migrate", f"users create {user}", "dags reserialize"]
    compile((tmp_path / "pair" / "dags" / "small.py").read_text(), "small.py", "exec")


def test_failed_preparation_raises_problem(fake: Fake, tmp_path: Path) -> None:
    with Preparation(fake("unpreparable"), Database(), "base", tmp_path / "pair", Keys()) as made:
        with pytest.raises(Problem, match=r"(?s)Preparing base failed with exit code 1:.*no such table"):
            made.wait()


def test_preparation_stops_at_end_of_block(fifo: Any, fake: Fake, tmp_path: Path) -> None:
    with Preparation(fake("unprepared"), Database(), "base", tmp_path / "pair", Keys()):
        fifo.read_line()
    fifo.wait_closed()
