"""A sweep of the public API: what it finds in the database, every GET, and the main writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from airflow_auth_patches.demo.flows import Step
from airflow_auth_patches.demo.openapi import Operation, address, unknown
from airflow_auth_patches.demo.preparation import SWEEP, SWEEP_DAGS
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

API = "/api/v2"
RUN = "sweep_run"
SEED_DATA = Path(__file__).with_name("seed_data.py")
TIMEOUT = 60.0

#: GETs that are not answered with 200, and why; all others must be.
OTHERWISE: Mapping[str, tuple[int, str]] = {
    f"{API}/auth/login": (307, "sends to the login page"),
    f"{API}/auth/logout": (307, "sends to the login page"),
    f"{API}/config": (403, "the configuration is not exposed"),
    f"{API}/config/section/{{section}}/option/{{option}}": (403, "the configuration is not exposed"),
    f"{API}/connections/enqueue-test": (404, "testing connections is disabled, so there is no test to find"),
    f"{API}/dags/{{dag_id}}/dagRuns/{{dag_run_id}}/taskInstances/{{task_id}}/externalLogUrl/{{try_number}}": (
        400,
        "logs are files here, without a page of their own",
    ),
}
#: GETs that may use the event loop for the database, and why: none.
EXEMPT: Mapping[str, str] = {}
#: For some GETs, by a part of their path, another value than for the rest.
INSTEAD: Mapping[str, Mapping[str, str]] = {
    "/dags/{dag_id}/assets/": {"dag_id": f"{SWEEP}_started_0"},
    "/listMapped": {"task_id": "group.mapped"},
}


class SeedData:
    """
    A server whose database has something for every route to tell.

    :param server: one that answers.
    :ivar asset_ids: the asset of each Dag of the route sweep, once seeded.
    """

    def __init__(self, server: Server) -> None:
        self.asset_ids: list[str] = []
        self._server = server
        self._headers = {"Authorization": f"Bearer {server.token()}"}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """
        Make one request, and give the answer.

        :raises Problem: when it is no success.
        """
        try:
            answer = httpx.request(
                method,
                f"{self._server.url}{path}",
                json=body,
                headers=self._headers,
                timeout=TIMEOUT,
                trust_env=False,
                verify=False,
            )
        except httpx.TransportError as error:
            raise Problem(f"{method} {path} was not answered: {error!r}.", "", Exit.FAILED) from error
        if not answer.is_success:
            told = f"{answer.status_code}: {answer.text[:300]}"
            raise Problem(f"{method} {path} was answered {told}", "", Exit.FAILED)
        return answer.json() if answer.content else None

    def create(self) -> dict[str, str]:
        """
        Make what the route sweep is to find.

        :return: a value for each name of a parameter.
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
            raise Problem(f"GET {API}/{path} tells of nothing for the route sweep.", "", Exit.FAILED)
        first: Mapping[str, Any] = fits[0]
        return first

    def document(self) -> Mapping[str, Any]:
        """Give the server's own OpenAPI document."""
        document: Mapping[str, Any] = self.ask("GET", "/openapi.json")
        return document


def looks(found: Sequence[Operation], values: Mapping[str, str]) -> list[Step]:
    """
    Give one request for each GET.

    :param found: what the server can be asked.
    :param values: a value for each name of a parameter.
    :raises Problem: when a GET needs a parameter that the route sweep does not know.
    """
    gets = [each for each in found if each.method == "GET" and each.path not in EXEMPT]
    if lacking := unknown(values, gets):
        raise Problem(
            f"The route sweep does not know {'; nor '.join(lacking)}: it would leave routes out.",
            "Let demo/sweep.py make something for it to find.",
            Exit.FAILED,
        )
    steps = []
    for each in gets:
        other = {
            name: value for part, own in INSTEAD.items() if part in each.path for name, value in own.items()
        }
        goes = address(each, {**values, **other})
        expect = OTHERWISE.get(each.path, (200, ""))[0]
        steps.append(Step("GET", each.path, goes.path, (expect,), headers=goes.headers))
    return steps
