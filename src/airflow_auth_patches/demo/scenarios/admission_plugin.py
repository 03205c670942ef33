"""The load test of issue 66493: 60 requests on a small pool, on stock, with the plugin and patched."""

from __future__ import annotations

from airflow_auth_patches.demo.load import Request, send
from airflow_auth_patches.demo.outcomes import Measurement, Observation, pool_timeouts
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.scenario import Scenario
from airflow_auth_patches.demo.server import Server

PATH = "/api/v2/dags"
REQUESTS = 60
CONCURRENCY = 30
#: Seconds for all requests; longer than the pool time-out, so that a request that reaches it returns 500.
DEADLINE = 45.0
SETTINGS = Settings(pool_timeout=30)


def run(server: Server) -> Observation:
    """Request the Dags concurrently with many tokens."""
    requests = [Request("GET", PATH, token=token) for token in server.tokens(REQUESTS)]
    mark = server.log_size()
    result = send(server.url, requests, deadline=DEADLINE, concurrency=CONCURRENCY)
    measurement = Measurement(f"{CONCURRENCY} at once", result, DEADLINE)
    given_up = pool_timeouts(server.log_since(mark))
    return Observation.of((measurement,), f"all in {result.wall:.1f} s", pool_timeouts=given_up)


SCENARIOS = (
    Scenario(
        name="admission-plugin",
        about=(
            f"{REQUESTS} GET {PATH}, {CONCURRENCY} at once, each its own token, on stock, on stock with the "
            f"plugin that limits concurrent requests, and with all patches; "
            f"pool_timeout {SETTINGS.pool_timeout} s, deadline {DEADLINE:.0f} s"
        ),
        bugs=("pool-hold-and-wait",),
        pairs=("3.2.0+3.6.0",),
        run=run,
        settings=SETTINGS,
        plugin=True,
    ),
)
