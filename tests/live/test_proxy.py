"""The proxy that blocks traffic, in front of a real database and of a small test server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """Return the port of an echo server."""
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


def test_forwards_in_both_directions(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy.port) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"


def test_blocks_traffic_until_released(echo: int) -> None:
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
            for client, data in ((old, b"old"), (new, b"new")):
                client.settimeout(30)
                assert client.recv(10) == data


def test_delays_both_directions(echo: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("airflow_auth_patches.demo.proxy.time.sleep", slept.append)
    with Proxy(echo, delay=0.25) as proxy, connect(proxy.port) as near:
        near.sendall(b"there")
        assert near.recv(1024) == b"there"
    assert slept == [0.25, 0.25]


def test_forwards_end_of_stream(echo: int) -> None:
    with Proxy(echo) as proxy:
        with connect(proxy.port) as client:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b""


def test_stops_threads_and_connections_when_block_is_interrupted(echo: int) -> None:
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
        while client.recv(10):  # blocked data can still arrive before the end of the stream
            pass
    with pytest.raises(ConnectionRefusedError):
        connect(proxy.port)
    ours = {each for each in set(threading.enumerate()) - before if "Proxy" in each.name}
    assert not ours
    proxy.stop()  # a second call has no effect


def test_database_is_reachable_through_proxy(shared_folder: Path) -> None:
    with PostgreSQL(shared_folder / "postgresql") as database, Proxy(database.port) as proxy:
        database.create("one")
        through = database.through(proxy.port)
        through.stop()  # does not stop the database server
        create_engine(through.url("one")).connect().close()
        database.create("two")
