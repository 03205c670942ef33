"""Request single pages of a server, and read the counts of its in-process probes, see ``demo/probes``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from airflow_auth_patches.util.errors import Exit, Problem

TIMEOUT = 60.0
SEE_LOG = "See the log of the server."
#: The value is not checked. Without a token, a server with a public role reads the user from the database.
HEADERS = {"Authorization": "Bearer of the watch"}


def ask(method: str, url: str, body: Any = None, headers: Mapping[str, str] = HEADERS) -> Any:
    """
    Send one request to a server without load.

    :param method: the HTTP method.
    :param url: the complete URL.
    :param body: the body to send as JSON, if any.
    :param headers: the headers; the default is for the pages of the probes.
    :return: the JSON response; ``None`` if it is empty.
    :raises Problem: when there is no response or an error status.
    """
    try:
        answer = httpx.request(
            method, url, json=body, headers=headers, timeout=TIMEOUT, trust_env=False, verify=False
        )
    except httpx.TransportError as error:
        raise Problem(f"{method} {url} failed: {error!r}.", SEE_LOG, Exit.FAILED) from error
    if not answer.is_success:
        what = f"{method} {url} returned {answer.status_code}: {answer.text[:300]}"
        raise Problem(what, SEE_LOG, Exit.FAILED)
    return answer.json() if answer.content else None


def reset(url: str, *probes: str) -> None:
    """
    Reset the counts of probes.

    :param url: the URL of a server booted with the probes.
    :param probes: their names.
    :raises Problem: when the server does not respond.
    """
    for probe in probes:
        ask("POST", f"{url}/{probe.replace('_', '-')}/reset")


def report(url: str, probe: str) -> Any:
    """
    Return the counts of a probe since the reset, as its page returns them.

    :param url: the URL of a server booted with the probe.
    :param probe: its name.
    :raises Problem: when the server does not respond.
    """
    return ask("GET", f"{url}/{probe.replace('_', '-')}/report")
