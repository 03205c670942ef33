"""A TCP proxy between a server and its database that can block or delay the traffic."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from airflow_auth_patches.demo.ports import free_port

HOST = "127.0.0.1"
#: Seconds to wait for a thread to end.
PATIENCE = 10.0


class Proxy:
    """
    A proxy that forwards traffic in both directions, except while it is blocked.

    It runs for the duration of a ``with`` block.

    :param target: the port on 127.0.0.1 to forward to.
    :param delay: seconds of delay in each direction.
    :ivar port: the port to connect to.
    """

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self.port = free_port()
        self._target = target
        self._delay = delay
        self._flows = threading.Event()
        self._flows.set()
        self._ended = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()

    def hold(self) -> None:
        """Block the traffic. Connections are still accepted, but there is no response."""
        self._flows.clear()

    def release(self) -> None:
        """Forward the blocked and all further traffic."""
        self._flows.set()

    def stop(self) -> None:
        """Close all connections and stop accepting new ones. Safe to call more than once."""
        with self._lock:
            self._ended = True
            for each in (self._listener, *self._sockets):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._flows.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def __enter__(self) -> Proxy:
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((HOST, self.port))
        self._listener.listen(128)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        # Daemon threads, so that they do not keep the process alive after a second signal during `stop`.
        thread = threading.Thread(target=work, args=arguments, name="Proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket()
            with self._lock:
                if self._ended:
                    near.close()
                    return
                self._sockets |= {near, far}
            try:
                far.connect((HOST, self._target))
            except OSError:
                self._close(near, far)
                continue
            self._start(self._forward, near, far)
            self._start(self._forward, far, near)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                if self._delay:
                    time.sleep(self._delay)
                sink.sendall(data)
        self._close(source, sink)

    def _close(self, *pair: socket.socket) -> None:
        with self._lock:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
                self._sockets.discard(each)
