"""FAB's own routes, one request at a time: users, roles and refused logins."""

from __future__ import annotations

from airflow_auth_patches.demo import plot_data
from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.preparation import USER
from airflow_auth_patches.demo.scenario import Scenario, Tally, rounds
from airflow_auth_patches.demo.server import Server

DEADLINE = 30.0
ROUNDS = 5
REFUSED = 200
#: Number of logins between two counts of the connections.
STEP = 10
#: Stop at this number of connections. The leak is evident then, and the database still accepts connections.
MANY = 50


def users(server: Server) -> Observation:
    """Request FAB's users without other load."""
    request = Request("GET", "/auth/fab/v1/users", token=server.token())
    return Observation.of((rounds(server, "one by one", [request], count=ROUNDS, deadline=DEADLINE),))


def roles(server: Server) -> Observation:
    """Create and delete roles without other load."""
    token, path = server.token(), "/auth/fab/v1/roles"
    sent = Tally(server.url, DEADLINE, ROUNDS, "made", "deleted")
    for name in (f"made_{number}" for number in range(ROUNDS)):
        sent.send("made", Request("POST", path, token=token, json={"name": name, "actions": []}))
        sent.send("deleted", Request("DELETE", f"{path}/{name}", token=token))
    return Observation.of(sent.measurements)


def refused_logins(server: Server) -> Observation:
    """
    Log in repeatedly with a wrong password, and count the connections that the server holds.

    Stops when there are `MANY` connections.

    :param server: a newly booted server.
    """
    log_in = Request("POST", "/auth/token", 401, json={**USER, "password": "wrong"})
    send(server.url, [log_in], deadline=DEADLINE)
    counts = [server.database.connections(server.name)]
    total, done = Result([], 0), 0
    while done < REFUSED and counts[-1] < MANY and not total.unfinished:
        total += send(server.url, [log_in] * STEP, deadline=DEADLINE, concurrency=1)
        done += STEP
        counts.append(server.database.connections(server.name))
    before, after = counts[0], counts[-1]
    measurement = Measurement("one by one", total, DEADLINE, done, REFUSED)
    rest = "" if done == REFUSED else ", the rest was not sent"
    most = max(before, server.settings.pool_size)
    return Observation.of(
        (measurement,),
        f"connections to the database: {before} before, {after} after {done}{rest}",
        failed=after > most,
        details={
            "connections": {"before": before, "after": after},
            "plots": [
                plot_data.curve(
                    "Connections to the database",
                    "refused logins",
                    "connections",
                    {"server": [(number * STEP, count) for number, count in enumerate(counts)]},
                    limit=most,
                )
            ],
        },
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
