"""Find TCP ports for private servers."""

from __future__ import annotations

import random
import socket

from airflow_auth_patches.util.errors import Problem


def free_port() -> int:
    """
    Return a free port of 127.0.0.1.

    The port is below the range of outgoing connections. A load test opens many of these, and one could take
    the port before the server does.

    :raises Problem: when no free port is found.
    """
    for port in random.sample(range(20000, 32768), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Problem("No free port was found between 20000 and 32767 on 127.0.0.1.", "Stop some servers.")
