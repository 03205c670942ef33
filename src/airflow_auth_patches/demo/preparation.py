"""Prepare what an API server needs: settings, secrets, plugins and a database with seed data."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_auth_patches.demo.databases import DatabaseServer
from airflow_auth_patches.demo.managed import ManagedProcess
from airflow_auth_patches.installation import plugin
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.series import series

USER = {"username": "admin", "password": "admin"}
PREPARE_DEADLINE = 300.0
PREPARE = Path(__file__).with_name("prepare.py")
PROBES = Path(__file__).with_name("probes")
DAGS = 100

#: Minimal Dags, for the list of Dags.
DAG_FILE = f"""\
from airflow.sdk import DAG, task

for number in range({DAGS}):
    with DAG(f"small_{{number:03}}", schedule=None, tags=[f"tag_{{number % 7}}"]) as dag:

        @task
        def nothing():
            pass

        nothing()
    globals()[dag.dag_id] = dag
"""

SWEEP = "sweep"
SWEEP_DAGS = 5
#: For the route sweep: Dags with every feature of a Dag. The asset of each one schedules another Dag.
SWEEP_FILE = f"""\
from datetime import datetime

from airflow.sdk import DAG, Asset, AssetAlias, task, task_group

for number in range({SWEEP_DAGS}):
    asset = Asset(f"{SWEEP}_asset_{{number}}")
    alias = AssetAlias(f"{SWEEP}_alias_{{number}}")
    with DAG(
        f"{SWEEP}_{{number}}",
        schedule="@daily",
        start_date=datetime(2025, 1, 1),
        catchup=False,
        tags=["{SWEEP}"],
        params={{"one": 1}},
    ) as dag:

        @task(outlets=[asset, alias])
        def plain():
            pass

        @task
        def mapped(value):
            pass

        @task_group
        def group():
            mapped.expand(value=[1, 2])

        plain() >> group()
    globals()[dag.dag_id] = dag
    other = Asset(f"{SWEEP}_never_{{number}}")
    with DAG(
        f"{SWEEP}_started_{{number}}", schedule=[asset, other], is_paused_upon_creation=False
    ) as started:
        task(lambda: None, task_id="plain")()
    globals()[started.dag_id] = started
"""

#: For the Dags page of the UI: Dags scheduled by assets. The page sends separate requests for each of them.
UI_DAGS = tuple(f"ui_{number:02}" for number in range(20))
UI_FILE = f"""\
from airflow.sdk import DAG, Asset, task

for name in {UI_DAGS!r}:
    with DAG(name, schedule=[Asset(f"{{name}}_a"), Asset(f"{{name}}_b")]) as dag:
        task(lambda: None, task_id="plain")()
    globals()[name] = dag
"""


@dataclass(frozen=True)
class Keys:
    """The random secrets of a demonstration. All its servers use the same ones."""

    fernet: str = field(default_factory=lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    jwt: str = field(default_factory=lambda: secrets.token_hex(64))
    api: str = field(default_factory=lambda: secrets.token_hex(32))


@dataclass(frozen=True)
class Settings:
    """
    The settings of a server. The defaults are those of the bug reports.

    :param pool_size: the number of connections that the pool keeps open.
    :param max_overflow: the number of connections that the pool can open in addition.
    :param pool_timeout: seconds that a request waits for a connection.
    :param user_cache_ttl: seconds for which FAB caches a user; FAB's default if ``None``.
    :param revocation_cache_ttl: seconds for which the revocation cache, which a patch adds, stores results;
        its default if ``None``.
    :param token_lifetime: seconds after which a token expires; Airflow's default if ``None``. Revoked tokens
        are cleaned up at twice this interval.
    :param token_leeway: seconds for which an expired token is accepted; Airflow's default if ``None``.
    :param session_backend: where FAB stores the sessions of its pages: ``securecookie`` or ``database``;
        FAB's default if ``None``.
    :param public_role: the role of requests without a token; if ``None``, they are refused.
    :param max_concurrent_requests: the limit of ``request-admission``, patch or plugin: 0 for no limit; the
        default if ``None``; a text to test invalid values.
    :param workers: the number of worker processes.
    :param admission_plugin: whether to install the plugin that limits concurrent requests.
    :param more: more environment variables.
    :param probes: modules of ``demo/probes`` to load into the server as plugins: ``("loop_watch",)``.
    """

    pool_size: int = 3
    max_overflow: int = 2
    pool_timeout: int = 30
    user_cache_ttl: int | None = None
    revocation_cache_ttl: int | None = None
    token_lifetime: int | None = None
    token_leeway: int | None = None
    session_backend: str | None = None
    public_role: str | None = None
    max_concurrent_requests: int | str | None = None
    workers: int = 1
    admission_plugin: bool = False
    probes: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return the environment variables for these settings."""
        values = {
            "DATABASE__SQL_ALCHEMY_POOL_SIZE": self.pool_size,
            "DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": self.max_overflow,
            "DATABASE__SQL_ALCHEMY_POOL_RECYCLE": 60,
            "DATABASE__SQL_ALCHEMY_POOL_PRE_PING": True,
            "DATABASE__SQL_ALCHEMY_ENGINE_ARGS": json.dumps({"pool_timeout": self.pool_timeout}),
            "FAB__CACHE_TTL": self.user_cache_ttl,
            "FAB__SESSION_BACKEND": self.session_backend,
            "FAB__AUTH_ROLE_PUBLIC": self.public_role,
            "API__MAX_CONCURRENT_REQUESTS": self.max_concurrent_requests,
            "API__WORKERS": self.workers,
            "API_AUTH__REVOKED_TOKEN_CACHE_TTL_SECONDS": self.revocation_cache_ttl,
            "API_AUTH__JWT_EXPIRATION_TIME": self.token_lifetime,
            "API_AUTH__JWT_LEEWAY": self.token_leeway,
        }
        told = {f"AIRFLOW__{key}": str(value) for key, value in values.items() if value is not None}
        return {**told, **self.more}


def install_plugins(home: Path, settings: Settings) -> None:
    """
    Replace the plugins folder of a server with the plugins of its settings.

    The API server loads its plugins while it builds its app, before the first request.

    :param home: the ``AIRFLOW_HOME`` of the server.
    :param settings: the probes, and whether to install the plugin that limits concurrent requests.
    """
    plugins = home / "plugins"
    shutil.rmtree(plugins, ignore_errors=True)
    plugins.mkdir()
    for module in settings.probes:
        shutil.copy(PROBES / f"{module}.py", plugins)
    if settings.admission_plugin:
        plugin.write(plugin.source(series.load()), plugins)


class Preparation:
    """
    A database with Airflow's tables, one administrator and the Dags: the template of the servers' databases.

    It is created in the background, from the start of the ``with`` block until ``wait`` returns.

    :param environment: the environment with the stock releases.
    :param database: the database server.
    :param name: the name of the database.
    :param folder: the folder to create; the servers use its ``dags`` folder too.
    :param keys: the secrets of the servers.
    """

    def __init__(
        self, environment: Environment, database: DatabaseServer, name: str, folder: Path, keys: Keys
    ) -> None:
        self.database = database
        self.name = name
        self.folder = folder
        self.keys = keys
        self._environment = environment
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Preparation:
        dags = self.folder / "dags"
        dags.mkdir(parents=True)
        (dags / "small.py").write_text(DAG_FILE)
        (dags / "sweep.py").write_text(SWEEP_FILE)
        (dags / "ui.py").write_text(UI_FILE)
        self.database.create(self.name)
        user = "-u {username} -p {password}".format(**USER)
        self._process = ManagedProcess(
            [
                *(self._environment.python, PREPARE, "db migrate"),
                f"users create {user} -f Ada -l Admin -r Admin -e admin@example.invalid",
                "dags reserialize",
            ],
            env=self.variables(self.folder / "home", self.database, self.name, Settings()),
            cwd=self.folder,
            log=self.folder / "prepare.log",
        )
        return self

    def variables(
        self, home: Path, database: DatabaseServer, name: str, settings: Settings
    ) -> dict[str, str]:
        """
        Return the environment of an Airflow process, without Airflow and Python variables of the user.

        :param home: the ``AIRFLOW_HOME`` of the process.
        :param database: the database server.
        :param name: the name of its database.
        :param settings: its settings.
        """
        removed = ("AIRFLOW_", "PYTHON", "VIRTUAL_ENV")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(removed)}
        manager = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
        return {
            **inherited,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__AUTH_MANAGER": manager,
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "dags"),
            "AIRFLOW__CORE__FERNET_KEY": self.keys.fernet,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
            "AIRFLOW__API__SECRET_KEY": self.keys.api,
            "AIRFLOW__API_AUTH__JWT_SECRET": self.keys.jwt,
            "AIRFLOW__API_AUTH__JWT_ISSUER": "airflow-auth-patches",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url(name),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": database.async_url(name),
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            **database.variables,
            **settings.variables(),
        }

    def wait(self) -> None:
        """
        Wait until the database is ready.

        :raises Problem: when one of Airflow's commands fails or the deadline passes; with the end of the log.
        """
        assert self._process is not None
        self._process.finish(PREPARE_DEADLINE, f"Preparing {self.name}")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()
