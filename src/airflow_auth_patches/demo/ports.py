"""TCP ports for servers of our own."""

from __future__ import annotations

import random
import socket

from airflow_auth_patches.util.errors import Problem


def free_port() -> int:
    """
    Tell a port of 127.0.0.1 that nothing listens on.

    It lies below those that systems give to outgoing connections, of which a load makes many: one of them
    could take it before the server does.

    :raises Problem: when none is found.
    """
    for port in random.sample(range(20000, 32768), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Problem("No free port was found between 20000 and 32767 on 127.0.0.1.", "Stop some servers.")
