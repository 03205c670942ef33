"""
Show the gauges and the counter of ``request-admission``, in the patch or in the plugin.

This plugin adds the page ``GET /static/admission-watch/report``. It returns the last and the largest value of
each gauge, and the counter, as JSON. The page is below ``/static/``, so it responds even when every slot is
in use.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from airflow.plugins_manager import AirflowPlugin

try:
    from airflow._shared.observability.metrics import stats
except ImportError:  # Airflow 3.1
    from airflow.stats import Stats as stats
else:
    if not hasattr(stats, "incr"):  # Airflow 3.2
        stats = stats.Stats

PREFIX = "api_server.request_admission."
seen: dict[str, Any] = {"waiting": 0, "in_flight": 0, "most_waiting": 0, "most_in_flight": 0, "rejected": 0}


def gauge(stat: str, value: float, *args: Any, **kwargs: Any) -> Any:
    """Record a gauge of the middleware, and forward every metric."""
    if stat.startswith(PREFIX):
        name = stat.removeprefix(PREFIX)
        seen[name] = value
        seen[f"most_{name}"] = max(seen[f"most_{name}"], value)
    return _stock_gauge(stat, value, *args, **kwargs)


def incr(stat: str, *args: Any, **kwargs: Any) -> Any:
    """Record a counter of the middleware, and forward every metric."""
    if stat.startswith(PREFIX):
        seen[stat.removeprefix(PREFIX)] += 1
    return _stock_incr(stat, *args, **kwargs)


async def report() -> dict[str, Any]:
    """Return the recorded values."""
    return seen


_stock_gauge, stats.gauge = stats.gauge, gauge
_stock_incr, stats.incr = stats.incr, incr

app = FastAPI(title="admission-watch")
app.add_api_route("/report", report)


class AdmissionWatch(AirflowPlugin):  # type: ignore[misc]
    """Add the page to the API server."""

    name = "admission_watch"
    fastapi_apps = [{"app": app, "url_prefix": "/static/admission-watch", "name": "admission-watch"}]
