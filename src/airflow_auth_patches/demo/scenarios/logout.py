"""Logout: afterwards the server, and other servers on the same database, must refuse the token."""

from __future__ import annotations

import time

import jwt

from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Kind, Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.scenario import Scenario, Tally
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

ROUNDS = 20
DEADLINE = 20.0
PATH = "/api/v2/dags?limit=1"
#: The status for an invalid token.
REFUSED = 403
LOGOUT = "/api/v2/auth/logout"
#: Seconds until a token expires, and for which it is accepted after that. A cleanup is due after twice
#: LIFETIME.
LIFETIME, LEEWAY = 2, 120
#: The longest lifetime of tokens for which this scenario waits.
LONGEST = 30


def log_out(server: Server, other: Server) -> Observation:
    """
    Log out of one server, and immediately send the same token to another server.

    :param server: the server to log out of.
    :param other: the server that receives the token; it can be the same.
    """
    sent = Tally(server.url, DEADLINE, ROUNDS, "before", "logout", "after")
    for token in server.tokens(ROUNDS):
        # Send the token to both servers first, so that both can cache that it is valid.
        for each in {server.url, other.url}:
            sent.send("before", Request("GET", PATH, token=token), each)
        sent.send("logout", Request("GET", LOGOUT, 307, cookie=token))
        sent.send("after", Request("GET", PATH, REFUSED, token=token), other.url)
    measurements = sent.measurements
    refused = measurements[2].result
    accepted = refused.outcomes["200"]
    summary = f"{ROUNDS - len(refused.failures)} of {ROUNDS} refused after logout, {accepted} accepted"
    others = [str(each) for each in measurements[:2] if each.result.failures]
    return Observation(
        sees="; ".join((summary, *others)),
        failed=any(each.result.failures for each in measurements),
        measurements=measurements,
    )


def elsewhere(server: Server) -> Observation:
    """
    Log out of one server process, and send the token to another one on the same database.

    :param server: a server with the revocation cache off.
    """
    with server.sibling("elsewhere") as other:
        return log_out(server, other.wait())


def in_leeway(server: Reached, count: int = ROUNDS) -> Observation:
    """
    Log out with tokens that then expire, and send them again within the leeway, after a cleanup.

    :param server: a server with the revocation cache off and a short token lifetime.
    :param count: the number of tokens.
    :raises Problem: when the tokens live longer than `LONGEST`.
    """
    tokens = server.tokens(count)
    claims = jwt.decode(tokens[-1], options={"verify_signature": False})
    lifetime = claims["exp"] - claims["iat"]
    if lifetime > LONGEST:
        raise Problem(
            f"Tokens live for {lifetime} s, so their cleanup takes too long.",
            f"Set [api_auth] jwt_expiration_time to at most {LONGEST}, and jwt_leeway to {LEEWAY}.",
            Exit.FAILED,
        )
    send(server.url, [Request("GET", LOGOUT, 307, cookie=token) for token in tokens], deadline=DEADLINE)
    refused = [Request("GET", PATH, REFUSED, token=token) for token in tokens]
    before = send(server.url, refused, deadline=DEADLINE)
    # The next check after twice the lifetime runs the cleanup. All tokens have expired by then.
    time.sleep(2 * lifetime + 1)
    send(server.url, [Request("GET", PATH, token=server.token())], deadline=DEADLINE)
    after = send(server.url, refused, deadline=DEADLINE)
    measurements = (
        Measurement("before", before, DEADLINE, count, count),
        Measurement("after", after, DEADLINE, count, count),
    )
    return Observation(
        sees=f"{after.outcomes['200']} of {count} accepted in their leeway, after a logout and a cleanup",
        failed=any(each.result.failures for each in measurements),
        measurements=measurements,
    )


SCENARIOS = (
    Scenario(
        name="logout-leeway",
        about=(
            f"{ROUNDS} tokens that live for {LIFETIME} s: GET {LOGOUT} with the cookie, then, when they have "
            f"expired and revoked tokens were cleaned up, a request with each; leeway {LEEWAY} s, cache off"
        ),
        bugs=("revocation-leeway",),
        pairs=("3.3.2+3.10.2",),
        run=in_leeway,
        settings=Settings(revocation_cache_ttl=0, token_lifetime=LIFETIME, token_leeway=LEEWAY),
    ),
    Scenario(
        name="logout-revokes",
        about=f"{ROUNDS} tokens: request, GET {LOGOUT} with the cookie, the same request again",
        bugs=("logout-not-revoked",),
        pairs=("3.2.0+3.6.0",),
        run=lambda server: log_out(server, server),
        settings=Settings(revocation_cache_ttl=0),
    ),
    Scenario(
        name="logout-elsewhere",
        about=(
            f"{ROUNDS} tokens: request to two servers on one database, GET {LOGOUT} on one, then the same "
            "request to the other; cache off; must be refused at once"
        ),
        bugs=("revocation-freeze",),
        pairs=("3.2.2+3.6.5", "3.3.2+3.10.2"),
        run=elsewhere,
        settings=Settings(revocation_cache_ttl=0),
        kind=Kind.REGRESSION,
        note="With the revocation cache on, another server accepts a token it knows until the TTL is over.",
    ),
)
