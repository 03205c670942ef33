"""Find TCP ports for private servers."""

from __future__ import annotations

import random
import socket

from airflow_auth_patches.util.errors import Problem


def reserve_port() -> socket.socket:
    """
    Reserve a free TCP port of 127.0.0.1, so that no other process that calls this function gets it too.

    A server may listen only seconds later. Until the returned socket is closed, which is a UDP socket on the
    same port, other calls leave this port out.

    The port is below the range of outgoing connections. A load test opens many of these, and one could take
    the port before the server does.

    :return: a socket whose port is the reserved one.
    :raises Problem: when no free port is found.
    """
    for port in random.sample(range(20000, 32768), 100):
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            reservation.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        return reservation
    raise Problem("No free port was found between 20000 and 32767 on 127.0.0.1.", "Stop some servers.")


def free_port() -> int:
    """
    Return a free TCP port of 127.0.0.1, for use at once: see `reserve_port`.

    :raises Problem: when no free port is found.
    """
    with reserve_port() as reservation:
        return port_of(reservation)


def port_of(reservation: socket.socket) -> int:
    """Return the port of a socket."""
    port: int = reservation.getsockname()[1]
    return port
