"""
Create a second app builder in a server, as FAB's routes, a command or a Flask plugin do.

This plugin adds two pages. ``POST /second-app-builder/begin`` starts the set-up of an app builder and pauses
it before FAB's auth manager initializes its resources. ``POST /second-app-builder/end`` continues the set-up,
and returns 500 if it fails.
"""

from __future__ import annotations

import threading

from fastapi import FastAPI

from airflow import settings
from airflow.plugins_manager import AirflowPlugin
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.www.app import create_app

TIMEOUT = 60.0


class SetUp(threading.Thread):
    """A thread that pauses the set-up half-way, and stores the exception that it raised."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.half_way, self.go = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            create_app(enable_plugins=False)
        except Exception as error:
            self.error = error
        finally:
            settings.Session.remove()


set_ups: list[SetUp] = []
_init_flask_resources = FabAuthManager.init_flask_resources


def init_flask_resources(self: FabAuthManager) -> None:
    """Pause in the thread of a set-up, then call FAB's method."""
    thread = threading.current_thread()
    if isinstance(thread, SetUp):
        thread.half_way.set()
        if not thread.go.wait(TIMEOUT):
            raise TimeoutError("nobody let the set-up go on")
    _init_flask_resources(self)


def begin() -> dict[str, int]:
    """Start a set-up, and return when it is half-way."""
    set_ups.append(SetUp())
    set_ups[-1].start()
    if not set_ups[-1].half_way.wait(TIMEOUT):
        raise TimeoutError("the set-up did not come half-way")
    return {}


def end() -> dict[str, int]:
    """Continue the set-up, and return when it ended."""
    set_ups[-1].go.set()
    set_ups[-1].join(TIMEOUT)
    if set_ups[-1].is_alive():
        raise TimeoutError("the set-up did not end")
    if set_ups[-1].error is not None:
        raise set_ups[-1].error
    return {}


FabAuthManager.init_flask_resources = init_flask_resources

app = FastAPI(title="second-app-builder")
app.add_api_route("/begin", begin, methods=["POST"])
app.add_api_route("/end", end, methods=["POST"])


class SecondAppBuilder(AirflowPlugin):  # type: ignore[misc]
    """Add the two pages to the API server."""

    name = "second_app_builder"
    fastapi_apps = [{"app": app, "url_prefix": "/second-app-builder", "name": "second-app-builder"}]
