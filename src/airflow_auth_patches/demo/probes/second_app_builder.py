"""
Sets up a second app builder beside the server's, as FAB's routes, a command or a Flask plugin do.

A plugin with two pages, to be asked one after the other: ``POST /second-app-builder/begin`` sets one up until
it is half-way, where FAB's auth manager is to get its resources; ``POST /second-app-builder/end`` lets it go
on, and answers 500 with its error when it fails.
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
    """A set-up that waits half-way, and keeps what it raised."""

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
    """Wait, in the thread of a set-up, before FAB does what it does."""
    thread = threading.current_thread()
    if isinstance(thread, SetUp):
        thread.half_way.set()
        if not thread.go.wait(TIMEOUT):
            raise TimeoutError("nobody let the set-up go on")
    _init_flask_resources(self)


def begin() -> dict[str, int]:
    """Begin a set-up; return when it is half-way."""
    set_ups.append(SetUp())
    set_ups[-1].start()
    if not set_ups[-1].half_way.wait(TIMEOUT):
        raise TimeoutError("the set-up did not come half-way")
    return {}


def end() -> dict[str, int]:
    """Let the set-up go on; return when it has ended."""
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
    """Gives the API server the two pages."""

    name = "second_app_builder"
    fastapi_apps = [{"app": app, "url_prefix": "/second-app-builder", "name": "second-app-builder"}]
