"""FAB's own routes, one request at a time: users, roles and refused logins."""

from __future__ import annotations

from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import USER
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

DEADLINE = 30.0
ROUNDS = 5
REFUSED = 200
#: Number of logins between two counts of the connections.
STEP = 10
#: Stop at this number of connections. The leak is evident then, and the database still accepts connections.
MANY = 50


def users(server: Server) -> Observation:
    """
    Request FAB's users without other load.

    :param server: a newly booted server.
    """
    token, total = server.token(), Result([], 0)
    for _ in range(ROUNDS):
        total += send(server.url, [Request("GET", "/auth/fab/v1/users", token=token)], deadline=DEADLINE)
    measurement = Measurement("one by one", total, DEADLINE, ROUNDS, ROUNDS)
    return Observation(sees=str(measurement), failed=bool(total.failures), measurements=(measurement,))


def roles(server: Server) -> Observation:
    """
    Create and delete roles without other load.

    :param server: a newly booted server.
    """
    token = server.token()
    made, deleted = Result([], 0), Result([], 0)
    for number in range(ROUNDS):
        role = {"name": f"made_{number}", "actions": []}
        path = "/auth/fab/v1/roles"
        made += send(server.url, [Request("POST", path, token=token, json=role)], deadline=DEADLINE)
        path = f"{path}/{role['name']}"
        deleted += send(server.url, [Request("DELETE", path, token=token)], deadline=DEADLINE)
    measurements = (
        Measurement("made", made, DEADLINE, ROUNDS, ROUNDS),
        Measurement("deleted", deleted, DEADLINE, ROUNDS, ROUNDS),
    )
    return Observation(
        sees="; ".join(map(str, measurements)),
        failed=any(each.result.failures for each in measurements),
        measurements=measurements,
    )


def refused_logins(server: Server) -> Observation:
    """
    Log in repeatedly with a wrong password, and count the connections that the server holds.

    Stops when there are `MANY` connections.

    :param server: a newly booted server.
    """
    log_in = Request("POST", "/auth/token", 401, json={**USER, "password": "wrong"})
    send(server.url, [log_in], deadline=DEADLINE)
    before = after = server.database.connections(server.name)
    total, done = Result([], 0), 0
    while done < REFUSED and after < MANY and not total.unfinished:
        total += send(server.url, [log_in] * STEP, deadline=DEADLINE, concurrency=1)
        done += STEP
        after = server.database.connections(server.name)
    measurement = Measurement("one by one", total, DEADLINE, done, REFUSED)
    rest = "" if done == REFUSED else ", the rest was not sent"
    return Observation(
        sees=f"{measurement}; connections to the database: {before} before, {after} after {done}{rest}",
        failed=bool(total.failures) or after > max(before, server.settings.pool_size),
        measurements=(measurement,),
        details={"connections": {"before": before, "after": after}},
    )


SCENARIOS = (
    Scenario(
        name="fab-users",
        about=f"{ROUNDS} GET /auth/fab/v1/users, one by one",
        bugs=("users-route-500",),
        pairs=("3.1.6+3.3.0",),
        run=users,
    ),
    Scenario(
        name="delete-role",
        about=f"{ROUNDS} times POST /auth/fab/v1/roles and DELETE of the role, one by one",
        bugs=("delete-role-500",),
        pairs=("3.1.6+3.3.0", "3.1.8+3.4.0"),
        run=roles,
    ),
    Scenario(
        name="refused-logins",
        about=f"{REFUSED} POST /auth/token with a wrong password, one by one",
        bugs=("application-builder-leak",),
        pairs=("3.1.6+3.3.0",),
        run=refused_logins,
        minimal=True,
    ),
)
