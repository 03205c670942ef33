"""
Shows the gauges and the counter of ``request-admission``, in the patch or in the plugin.

A plugin with a page, ``GET /static/admission-watch/report``: the last value of each gauge, its largest one,
and the counter, as JSON. The page is below ``/static/``, so it is answered when every slot is taken.
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
    """Keep a gauge of the middleware, and pass every metric on."""
    if stat.startswith(PREFIX):
        name = stat.removeprefix(PREFIX)
        seen[name] = value
        seen[f"most_{name}"] = max(seen[f"most_{name}"], value)
    return _stock_gauge(stat, value, *args, **kwargs)


def incr(stat: str, *args: Any, **kwargs: Any) -> Any:
    """Count what the middleware counts, and pass every metric on."""
    if stat.startswith(PREFIX):
        seen[stat.removeprefix(PREFIX)] += 1
    return _stock_incr(stat, *args, **kwargs)


async def report() -> dict[str, Any]:
    """Return what was seen."""
    return seen


_stock_gauge, stats.gauge = stats.gauge, gauge
_stock_incr, stats.incr = stats.incr, incr

app = FastAPI(title="admission-watch")
app.add_api_route("/report", report)


class AdmissionWatch(AirflowPlugin):  # type: ignore[misc]
    """Adds the page to the API server."""

    name = "admission_watch"
    fastapi_apps = [{"app": app, "url_prefix": "/static/admission-watch", "name": "admission-watch"}]
