"""A small HTTP server for tests of the clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers each request in a thread of its own."""

    daemon_threads = True
    request_queue_size = 64


@contextmanager
def running(handler: type[BaseHTTPRequestHandler], timeout: float = 30) -> Iterator[str]:
    """
    Run a server on a free port for the length of a ``with`` block.

    :param handler: answers the requests.
    :param timeout: seconds that its thread has to end.
    :return: its URL.
    """
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout)
        server.server_close()
        assert not thread.is_alive()
