"""Races at the auth manager and the app builder: concurrent requests for tokens and FAB pages."""

from __future__ import annotations

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.outcomes import Measurement, Observation, race_errors
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.scenario import Scenario, rounds
from airflow_auth_patches.demo.server import Server

PAIRS = ("3.1.6+3.3.0", "3.1.8+3.4.0")
FEW_DEADLINE = 10.0
MANY_DEADLINE = 25.0
NO_USERS = "FAB 3.3.0 answers its list of users with 500 for a reason of its own: it is left out there."
#: A connection for every thread of the server. In these releases, requests for FAB's users and roles leave
#: the session of their thread in a transaction. With 3+2 connections, this alone makes the server hang.
AMPLE = Settings(pool_size=20, max_overflow=30)


def observe(server: Reached, mark: int, measurements: tuple[Measurement, ...]) -> Observation:
    """
    Return the observation of measurements, with the race errors in the log.

    :param server: the server.
    :param mark: the size of its log before the measurements.
    :param measurements: the measurements.
    """
    errors = race_errors(server.log_since(mark))
    logged = ", ".join(f"{count} x {name}" for name, count in errors.items())
    notes = [f"logged: {logged}"] if errors else []
    return Observation.of(measurements, *notes, failed=bool(errors), log_errors=errors)


def five_tokens(server: Reached) -> Measurement:
    """Send 5 concurrent logins, in three rounds."""
    log_in = Request("POST", "/auth/token", 201, json=server.user)
    return rounds(server, "5 at once", [log_in] * 5, count=3, deadline=FEW_DEADLINE)


def tokens_at_once(server: Server) -> Observation:
    """Send 5 and then 20 concurrent logins, without earlier requests."""
    mark = server.log_size()
    log_in = Request("POST", "/auth/token", 201, json=server.user)
    few = five_tokens(server)
    if few.result.unfinished:
        server.restart()
    many = rounds(server, "20 at once", [log_in] * 20, count=2, deadline=MANY_DEADLINE)
    return observe(server, mark, (few, many))


def fab_requests(server: Reached, token: str) -> list[Request]:
    """
    Return the requests to FAB's own API that succeed without load.

    ``GET /auth/fab/v1/users`` is omitted on provider 3.3.0, where it returns 500 because of another bug.

    :param server: the server.
    :param token: the token of an administrator.
    """
    paths = ["/auth/fab/v1/roles"]
    if not server.pair.endswith("+3.3.0"):
        paths.append("/auth/fab/v1/users")
    return [Request("GET", path, token=token) for path in paths]


def three_mixed(server: Reached, token: str) -> Measurement:
    """
    Request a token, FAB's roles and Dags concurrently, in five rounds, as in the bug report.

    :param server: the server.
    :param token: the token of an administrator.
    """
    requests = [
        Request("POST", "/auth/token", 201, json=server.user),
        fab_requests(server, token)[0],
        Request("GET", "/api/v2/dags", token=token),
    ]
    return rounds(server, "3 at once", requests, count=5, deadline=FEW_DEADLINE)


def mixed(server: Server) -> Observation:
    """Request tokens, FAB's pages and Dags concurrently: three requests as in the bug report, then more."""
    token = server.token()
    mark = server.log_size()
    few = three_mixed(server, token)
    heavy = [
        Request("POST", "/auth/token", 201, json=server.user),
        Request("POST", "/auth/token/cli", 201, json=server.user),
        *fab_requests(server, token),
        Request("GET", "/api/v2/dags", token=token),
    ] * 3
    if few.result.unfinished:
        server.restart()
    many = rounds(server, f"{len(heavy)} at once", heavy, count=2, deadline=MANY_DEADLINE)
    return observe(server, mark, (few, many))


SCENARIOS = (
    Scenario(
        name="token-race",
        about=(
            f"POST /auth/token: 3 rounds of 5 at once, deadline {FEW_DEADLINE:.0f} s; "
            f"2 rounds of 20, {MANY_DEADLINE:.0f} s"
        ),
        bugs=("auth-manager-race", "appbuilder-race"),
        pairs=PAIRS,
        run=tokens_at_once,
    ),
    Scenario(
        name="mixed-race",
        about=(
            f"tokens, FAB users and roles, Dags: 5 rounds of 3 at once, deadline {FEW_DEADLINE:.0f} s; "
            f"2 rounds of more, {MANY_DEADLINE:.0f} s; pool {AMPLE.pool_size}+{AMPLE.max_overflow}"
        ),
        bugs=("auth-manager-race", "appbuilder-race"),
        pairs=PAIRS,
        run=mixed,
        settings=AMPLE,
        note=(
            f"{NO_USERS} The pool is large, as FAB's users and roles each leave a connection in a "
            "transaction, which stops a server with 3+2 connections without any race."
        ),
    ),
)
