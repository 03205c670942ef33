"""The database drops a connection after the last query of a page: the page must still be complete."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import httpx

from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.pages import SEE_LOG
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.scenario import Scenario, rounds
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

ROUNDS = 20
DEADLINE = 20.0
PAGE = "/auth/users/list/"
#: The only path for which FAB never writes the session. It returns a 404 page, which also reads the user of
#: the session.
UNWRITTEN = "/auth/health"
#: The end of a complete page.
END = "</html>"
#: The warning that the patch logs instead of failing.
WARNING = "Failed to remove session during teardown"


def sign_in(server: Reached) -> str:
    """
    Log in with the login form, like a browser.

    :param server: the server.
    :return: the session cookie.
    :raises Problem: when there is no form, or the login is refused.
    """
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as browser:
        form = browser.get("/auth/login/")
        field = re.search(r'name="csrf_token"[^>]*\bvalue="([^"]+)"', form.text)
        if field:
            answer = browser.post("/auth/login/", data={**server.user, "csrf_token": field[1]})
            if answer.status_code == 302 and "_token" in browser.cookies:
                return browser.cookies["session"]
    raise Problem(f"The login form of {server.pair} failed ({form.status_code}).", SEE_LOG, Exit.FAILED)


def request_page(server: Server, path: str, status: int) -> Observation:
    """
    Request a page repeatedly; the database drops the page's connection each time.

    :param server: a server with the probe ``drop_connection``.
    :param path: the path of the page.
    :param status: the expected status.
    :raises Problem: when the page fails without a drop, or the number of dropped connections is wrong.
    """
    session = sign_in(server)
    page = Request("GET", path, status, session=session, contains=END)
    usual = send(server.url, [page], deadline=DEADLINE)
    if usual.failures:
        outcomes = dict(usual.outcomes)
        raise Problem(f"{path} of {server.pair} fails without a drop: {outcomes}.", SEE_LOG, Exit.FAILED)
    mark = server.log_size()
    page = replace(page, path=f"{path}?drop-connection")
    measurement = rounds(server, "pages", [page], count=ROUNDS, deadline=DEADLINE)
    dropped = int(httpx.get(f"{server.url}/drop-connection/count", trust_env=False, timeout=DEADLINE).text)
    if dropped != ROUNDS:
        raise Problem(f"{ROUNDS} pages dropped {dropped} connections.", SEE_LOG, Exit.FAILED)
    warnings = server.log_since(mark).count(WARNING)
    notes = [f"{warnings} warnings logged"] if warnings else []
    return Observation.of((measurement,), *notes, warnings=warnings, details={"dropped": dropped})


SCENARIOS = (
    Scenario(
        name="truncated-page",
        about=(
            f"{ROUNDS} GET {PAGE}, the page's connection dropped by the database after its last query; "
            "session_backend securecookie"
        ),
        bugs=("truncated-page",),
        pairs=("3.1.6+3.3.0", "3.2.2+3.6.5", "3.3.2+3.10.2"),
        run=partial(request_page, path=PAGE, status=200),
        settings=Settings(session_backend="securecookie", probes=("drop_connection",)),
        minimal=True,
    ),
    Scenario(
        name="truncated-page-database",
        about=(
            f"{ROUNDS} GET {UNWRITTEN}, a 404 and the only path whose session is never written, otherwise "
            "the same; session_backend database"
        ),
        bugs=("truncated-page",),
        pairs=("3.1.6+3.3.0", "3.3.2+3.10.2"),
        run=partial(request_page, path=UNWRITTEN, status=404),
        settings=Settings(session_backend="database", probes=("drop_connection",)),
        minimal=True,
        note="A page whose session is written lets go of its connection before, and is whole on stock too.",
    ),
)
