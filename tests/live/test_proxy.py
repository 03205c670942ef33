"""A proxy that can fall silent, before a real database and before a small server of the test's own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """Return the port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answer(near: socket.socket) -> None:
        with near:
            while data := near.recv(1024):
                near.sendall(data)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=answer, args=(near,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in (accepting, *threads):
        thread.join(30)
        assert not thread.is_alive()


def connect(port: int, timeout: float = 30) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout)


def test_passes_on_both_ways(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy.port) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"


def test_answers_nothing_while_held_and_everything_after(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy.port) as old:
        proxy.hold()
        old.sendall(b"old")
        with connect(proxy.port) as new:
            new.sendall(b"new")
            for client in (old, new):
                client.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    client.recv(10)
            proxy.release()
            for client, said in ((old, b"old"), (new, b"new")):
                client.settimeout(30)
                assert client.recv(10) == said


def test_delays_both_directions(echo: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("airflow_auth_patches.demo.proxy.time.sleep", slept.append)
    with Proxy(echo, delay=0.25) as proxy, connect(proxy.port) as near:
        near.sendall(b"there")
        assert near.recv(1024) == b"there"
    assert slept == [0.25, 0.25]


def test_an_end_on_one_side_is_one_on_the_other(echo: int) -> None:
    with Proxy(echo) as proxy:
        with connect(proxy.port) as client:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b""


def test_nothing_is_left_of_it_when_its_block_is_broken_off(echo: int) -> None:
    clients = []

    def break_off(proxy: Proxy) -> None:
        clients.append(connect(proxy.port))
        proxy.hold()
        clients[0].sendall(b"hello")
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    proxy = Proxy(echo)
    with pytest.raises(KeyboardInterrupt), proxy:
        break_off(proxy)
    with clients[0] as client, contextlib.suppress(ConnectionResetError):
        while client.recv(10):  # what was held may still come, then the end
            pass
    with pytest.raises(ConnectionRefusedError):
        connect(proxy.port)
    ours = {each for each in set(threading.enumerate()) - before if "Proxy" in each.name}
    assert not ours
    proxy.stop()  # once more is as good


def test_a_database_is_found_through_it(room: Path) -> None:
    with PostgreSQL(room / "postgresql") as database, Proxy(database.port) as proxy:
        database.create("one")
        through = database.through(proxy.port)
        through.stop()  # the server is not its own
        connection = psycopg2.connect(through.url("one").replace("+psycopg2", ""))
        connection.cursor().execute("SELECT 1")
        connection.close()
        database.create("two")
