"""Races at the auth manager and the app builder: tokens and FAB pages requested at once."""

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
#: A pool for every thread that the server has. FAB's users and roles leave the session of their thread in a
#: transaction, in every release here: with 3+2 connections that alone stops a server, without any race.
AMPLE = Settings(pool_size=20, max_overflow=30)


def observe(server: Reached, mark: int, measurements: tuple[Measurement, ...]) -> Observation:
    """
    Put together what was measured and what the log says of the races.

    :param server: where it was measured.
    :param mark: where its log was before.
    :param measurements: what was measured.
    """
    errors = race_errors(server.log_since(mark))
    told = "; ".join(str(each) for each in measurements)
    if errors:
        told += "; logged: " + ", ".join(f"{count} x {name}" for name, count in errors.items())
    return Observation(
        sees=told,
        failed=bool(errors) or any(each.result.failures for each in measurements),
        measurements=measurements,
        log_errors=errors,
    )


def five_tokens(server: Reached) -> Measurement:
    """
    Log in 5 times at once, three times over.

    :param server: where to.
    """
    log_in = Request("POST", "/auth/token", 201, json=server.user)
    return rounds(server, "5 at once", [log_in] * 5, count=3, deadline=FEW_DEADLINE)


def tokens_at_once(server: Server) -> Observation:
    """
    Log in 5 times, then 20 times at once, without any token before.

    :param server: a fresh one.
    """
    mark = server.log_size()
    log_in = Request("POST", "/auth/token", 201, json=server.user)
    few = five_tokens(server)
    if few.result.unfinished:
        server.restart()
    many = rounds(server, "20 at once", [log_in] * 20, count=2, deadline=MANY_DEADLINE)
    return observe(server, mark, (few, many))


def fab_requests(server: Reached, token: str) -> list[Request]:
    """
    List the requests to FAB's own API that the server can answer when it is alone with them.

    ``GET /auth/fab/v1/users`` is left out on provider 3.3.0, where it is 500 for a reason of its own.

    :param server: where to.
    :param token: an administrator's.
    """
    paths = ["/auth/fab/v1/roles"]
    if not server.pair.endswith("+3.3.0"):
        paths.append("/auth/fab/v1/users")
    return [Request("GET", path, token=token) for path in paths]


def three_mixed(server: Reached, token: str) -> Measurement:
    """
    Ask for a token, for FAB's roles and for Dags at once, five times over, as the source did.

    :param server: where to.
    :param token: an administrator's.
    """
    requests = [
        Request("POST", "/auth/token", 201, json=server.user),
        fab_requests(server, token)[0],
        Request("GET", "/api/v2/dags", token=token),
    ]
    return rounds(server, "3 at once", requests, count=5, deadline=FEW_DEADLINE)


def mixed(server: Server) -> Observation:
    """
    Ask for tokens, FAB's pages and Dags at once: three, as the source did, then a heavier mix.

    :param server: a fresh one.
    """
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
