"""A small HTTP server for tests of the clients."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers each request in a thread of its own."""

    daemon_threads = True
    request_queue_size = 64


@contextmanager
def running(
    handler: type[BaseHTTPRequestHandler], timeout: float = 30, context: ssl.SSLContext | None = None
) -> Iterator[str]:
    """
    Run a server on a free port for the length of a ``with`` block.

    :param handler: answers the requests.
    :param timeout: seconds that its thread has to end.
    :param context: the certificate, for HTTPS.
    :return: its URL.
    """
    server = Server(("127.0.0.1", 0), handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout)
        server.server_close()
        assert not thread.is_alive()


@contextmanager
def serving(
    respond: Callable[[BaseHTTPRequestHandler], Any],
    timeout: float = 30,
    context: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """
    Serve on a free port for the length of a ``with`` block.

    :param respond: returns the status of a request, or the status and the body, which is sent as JSON; bytes
        are sent as they are, with a Content-Length of 100.
    :return: the URL of the server.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = respond(self)
            status, body = answer if isinstance(answer, tuple) else (answer, "")
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", "100" if isinstance(body, bytes) else str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                pass  # the client cancelled the request
            self.close_connection = isinstance(body, bytes) or self.close_connection

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler, timeout, context) as url:
        yield url
