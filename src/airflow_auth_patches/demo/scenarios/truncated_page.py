"""A connection that the database drops after a page's last query: the page must still arrive whole."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx

from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import USER, Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

ROUNDS = 20
DEADLINE = 20.0
PAGE = "/auth/users/list/"
#: The one path whose session is never written. There is no such page, but for an answer that says so, made
#: with the user of the session as any page is.
UNWRITTEN = "/auth/health"
#: What a whole page has at its end.
END = "</html>"
#: What the patch logs in place of failing.
WARNING = "Could not close the database session of a request"


def sign_in(server: Server) -> str:
    """
    Log in as a browser does, with the form.

    :param server: where.
    :return: the cookie of the session.
    :raises Problem: when there is no form, or the login is refused.
    """
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as browser:
        form = browser.get("/auth/login/")
        field = re.search(r'name="csrf_token"[^>]*\bvalue="([^"]+)"', form.text)
        if field:
            answer = browser.post("/auth/login/", data={**USER, "csrf_token": field[1]})
            if answer.status_code == 302 and "_token" in browser.cookies:
                return browser.cookies["session"]
    raise Problem(f"The login page of {server.pair} logs nobody in ({form.status_code}).", "", Exit.FAILED)


def look(server: Server, path: str, status: int) -> Observation:
    """
    Look at a page time after time, while the database drops the page's connection each time.

    :param server: one with ``drop_connection`` in it.
    :param path: the page.
    :param status: what it is answered with.
    :raises Problem: when it was not the page's connection that was dropped, each time.
    """
    session = sign_in(server)
    page = Request("GET", path, status, session=session, holds=END)
    usual = send(server.url, [page], deadline=DEADLINE)
    if usual.failures:
        told = dict(usual.outcomes)
        raise Problem(f"{path} of {server.pair} fails without any fault: {told}.", "", Exit.FAILED)
    mark, total = server.log_size(), Result([], 0)
    page = replace(page, path=f"{path}?drop-connection")
    for _ in range(ROUNDS):
        total += send(server.url, [page], deadline=DEADLINE)
    dropped = int(httpx.get(f"{server.url}/drop-connection/count", trust_env=False, timeout=DEADLINE).text)
    if dropped != ROUNDS:
        raise Problem(f"{dropped} connections of {ROUNDS} pages were dropped.", "", Exit.FAILED)
    measurement = Measurement("pages", total, DEADLINE, ROUNDS, ROUNDS)
    warnings = server.log_since(mark).count(WARNING)
    return Observation(
        sees=f"{measurement}; {warnings} warnings logged" if warnings else str(measurement),
        failed=bool(total.failures),
        measurements=(measurement,),
        warnings=warnings,
        details={"dropped": dropped},
    )


def securecookie(server: Server) -> Observation:
    """
    Look at a page that reads the database, with the session in a cookie.

    :param server: a fresh one.
    """
    return look(server, PAGE, 200)


def database(server: Server) -> Observation:
    """
    Look at a page whose session is read from the database and not written.

    :param server: a fresh one.
    """
    return look(server, UNWRITTEN, 404)


SCENARIOS = (
    Scenario(
        name="truncated-page",
        about=(
            f"{ROUNDS} GET {PAGE}, the page's connection dropped by the database after its last query; "
            "session_backend securecookie"
        ),
        bugs=("truncated-page",),
        pairs=("3.1.6+3.3.0", "3.2.2+3.6.5", "3.3.2+3.10.2"),
        run=securecookie,
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
        run=database,
        settings=Settings(session_backend="database", probes=("drop_connection",)),
        minimal=True,
        note="A page whose session is written lets go of its connection before, and is whole on stock too.",
    ),
)
