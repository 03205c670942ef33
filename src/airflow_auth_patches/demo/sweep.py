"""The route sweep of the public API: its seed data, and one request for every GET."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.openapi import Operation, address, unknown
from airflow_auth_patches.demo.pages import SEE_LOG, ask
from airflow_auth_patches.demo.preparation import SWEEP, SWEEP_DAGS
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

API = "/api/v2"
RUN = "sweep_run"
SEED_DATA = Path(__file__).with_name("seed_data.py")

#: GET routes that do not return 200, with the expected status and the reason. All others must return 200.
OTHER_STATUS: Mapping[str, tuple[int, str]] = {
    f"{API}/auth/login": (307, "redirects to the login page"),
    f"{API}/auth/logout": (307, "redirects to the login page"),
    f"{API}/config": (403, "the configuration is not exposed"),
    f"{API}/config/section/{{section}}/option/{{option}}": (403, "the configuration is not exposed"),
    f"{API}/connections/enqueue-test": (404, "connection tests are disabled"),
    f"{API}/dags/{{dag_id}}/dagRuns/{{dag_run_id}}/taskInstances/{{task_id}}/externalLogUrl/{{try_number}}": (
        400,
        "logs are local files without an external URL",
    ),
}
#: Parameter values for some GET routes, by a part of their path. They replace the general values.
OTHER_VALUES: Mapping[str, Mapping[str, str]] = {
    "/dags/{dag_id}/assets/": {"dag_id": f"{SWEEP}_started_0"},
    "/listMapped": {"task_id": "group.mapped"},
}


class SeedData:
    """
    Creates seed data on a server, so that every route has data to return.

    :param server: a running server.
    :ivar asset_ids: the asset of each Dag of the route sweep, after :meth:`create`.
    """

    def __init__(self, server: Server) -> None:
        self.asset_ids: list[str] = []
        self._server = server
        self._headers = {"Authorization": f"Bearer {server.token()}"}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """
        Send a request and return the JSON response.

        :raises Problem: when there is no response or an error status.
        """
        return ask(method, f"{self._server.url}{path}", body, self._headers)

    def create(self) -> dict[str, str]:
        """
        Create the seed data.

        :return: a value for each parameter name.
        """
        paths = self.document()["paths"]
        for number in range(SWEEP_DAGS):
            run = {
                "dag_run_id": RUN,
                "logical_date": "2026-01-01T00:00:00Z",
                "note": "made for the route sweep",
            }
            self.ask("POST", f"{API}/dags/{SWEEP}_{number}/dagRuns", run)
        self._server.run(SEED_DATA, RUN, *(f"{SWEEP}_{number}" for number in range(SWEEP_DAGS)))
        dag, run_path = f"{SWEEP}_0", f"{API}/dags/{SWEEP}_0/dagRuns/{RUN}"
        self.ask("PATCH", run_path, {"state": "success"})
        task = f"{run_path}/taskInstances/plain"
        self.ask("PATCH", task, {"note": "seen"})
        self.ask("POST", f"{task}/xcomEntries", {"key": "told", "value": {"one": 1}})
        self.ask(
            "POST", f"{API}/pools", {"name": SWEEP, "slots": 1, "description": "made for the route sweep"}
        )
        self.ask("POST", f"{API}/connections", {"connection_id": SWEEP, "conn_type": "http"})
        self.ask("POST", f"{API}/variables", {"key": SWEEP, "value": "1"})
        dates = {"from_date": "2025-02-01T00:00:00Z", "to_date": "2025-02-03T00:00:00Z"}
        backfill = self.ask("POST", f"{API}/backfills", {"dag_id": dag, **dates})["id"]
        self.ask("PUT", f"{API}/backfills/{backfill}/cancel")
        assets = [self._first("assets", "assets", name=f"{SWEEP}_asset_{n}") for n in range(SWEEP_DAGS)]
        self.asset_ids = [str(each["id"]) for each in assets]
        asset = assets[0]
        self.ask("POST", f"{API}/assets/events", {"asset_id": asset["id"], "extra": {"by": SWEEP}})
        for store in (f"{task}/state-store/told", f"{API}/assets/{asset['id']}/state-store/told"):
            if any("/state-store/" in path and store.count("/") == path.count("/") for path in paths):
                self.ask("PUT", store, {"value": 1})
        return {
            "asset_alias_id": str(self._first("assets/aliases", "asset_aliases")["id"]),
            "asset_id": str(asset["id"]),
            "backfill_id": str(backfill),
            "base_version_number": "1",
            "bundle_name": "dags-folder",
            "connection_id": SWEEP,
            "dag_id": dag,
            "dag_run_id": RUN,
            "event_log_id": str(self._first("eventLogs", "event_logs")["event_log_id"]),
            "import_error_id": str(self._first("importErrors", "import_errors")["import_error_id"]),
            "interval": "1",
            "key": "told",
            "map_index": "-1",
            "option": "parallelism",
            "pool_name": SWEEP,
            "section": "core",
            "target_version_number": "1",
            "task_id": "plain",
            "task_try_number": "1",
            "try_number": "2",
            "variable_key": SWEEP,
            "version_number": "1",
            "xcom_key": "told",
            "Airflow-Connection-Test-Token": "made-up",
        }

    def _first(self, path: str, listed: str, **fields: str) -> Mapping[str, Any]:
        found = self.ask("GET", f"{API}/{path}?limit=100")[listed]
        fits = [each for each in found if all(each[key] == value for key, value in fields.items())]
        if not fits:
            raise Problem(f"GET {API}/{path} returned no seed data of the route sweep.", SEE_LOG, Exit.FAILED)
        first: Mapping[str, Any] = fits[0]
        return first

    def document(self) -> Mapping[str, Any]:
        """Return the OpenAPI document of the server."""
        document: Mapping[str, Any] = self.ask("GET", "/openapi.json")
        return document


def get_steps(found: Sequence[Operation], values: Mapping[str, str]) -> list[Request]:
    """
    Return one step for each GET operation.

    :param found: the operations of the server.
    :param values: a value for each parameter name.
    :raises Problem: when a GET operation needs a parameter without a value.
    """
    gets = [each for each in found if each.method == "GET"]
    if missing := unknown(values, gets):
        raise Problem(
            f"The route sweep has no value for {'; '.join(missing)}.",
            "Create seed data with such a value in demo/sweep.py.",
            Exit.FAILED,
        )
    steps = []
    for each in gets:
        other = {
            name: value
            for part, own in OTHER_VALUES.items()
            if part in each.path
            for name, value in own.items()
        }
        path, headers = address(each, {**values, **other})
        expect = OTHER_STATUS.get(each.path, (200, ""))[0]
        steps.append(Request("GET", path, expect, route=each.path, more_headers=headers))
    return steps
