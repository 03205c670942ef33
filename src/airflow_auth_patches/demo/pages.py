"""Request the pages of the in-process probes of a server."""

from __future__ import annotations

from typing import Any

import httpx

from airflow_auth_patches.util.errors import Exit, Problem

TIMEOUT = 60.0
SEE_LOG = "See the log of the server."
#: The value is not checked. Without a token, a server with a public role reads the user from the database.
HEADERS = {"Authorization": "Bearer of the watch"}


def ask(method: str, address: str, what: str) -> Any:
    """
    Request a page of a probe.

    :param method: ``GET`` or ``POST``.
    :param address: the complete URL.
    :param what: what the probe watches, for the error message.
    :return: the JSON response.
    :raises Problem: when there is no response or an error status.
    """
    try:
        answer = httpx.request(method, address, headers=HEADERS, timeout=TIMEOUT, trust_env=False)
    except httpx.TransportError as error:
        raise Problem(f"{what} could not be watched: {error!r}.", SEE_LOG, Exit.FAILED) from error
    if answer.status_code != 200:
        raise Problem(f"{what} could not be watched: {answer.status_code}.", SEE_LOG, Exit.FAILED)
    return answer.json()
