"""The pages of the plugins that are loaded into a server."""

from __future__ import annotations

from typing import Any

import httpx

from airflow_auth_patches.util.errors import Exit, Problem

TIMEOUT = 60.0
#: Nobody reads it; without one, a server with a public role asks the database who asks.
HEADERS = {"Authorization": "Bearer of the watch"}


def ask(method: str, address: str, what: str) -> Any:
    """
    Ask a page of a plugin.

    :param method: ``GET`` or ``POST``.
    :param address: its whole address.
    :param what: what it watches, for the error.
    :return: its answer, from JSON.
    :raises Problem: when it does not answer, or with an error.
    """
    try:
        answer = httpx.request(method, address, headers=HEADERS, timeout=TIMEOUT, trust_env=False)
    except httpx.TransportError as error:
        raise Problem(f"{what} could not be watched: {error!r}.", "", Exit.FAILED) from error
    if answer.status_code != 200:
        raise Problem(f"{what} could not be watched: {answer.status_code}.", "", Exit.FAILED)
    return answer.json()
