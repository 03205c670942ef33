"""A private MariaDB server that uses the installed programs and ends with this process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sqlalchemy import inspect

from airflow_auth_patches.demo.databases import DatabaseServer, NotInstalled
from airflow_auth_patches.util.errors import Exit

#: Debian installs the server in a folder that is not in the PATH of an ordinary user.
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
#: Airflow requires utf8mb4. The index of a long key needs the collation that Airflow names.
SETTINGS = (
    "--bind-address=127.0.0.1",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    # The data does not need to survive a crash of the machine.
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--sync-binlog=0",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--skip-networking=0",
    "--max-connections=400",
)
#: The folder of the Airflow local settings that select a pure Python driver.
LOCAL_SETTINGS = Path(__file__).with_name("local_settings")


def programs() -> dict[str, str]:
    """
    Return the paths of the MariaDB programs.

    :return: ``{name: path}`` of the programs that this module calls, and of one that they call.
    :raises NotInstalled: when a program is missing.
    """
    names = ("mariadbd", "mariadb-install-db", "my_print_defaults")
    found = {name: shutil.which(name, path=SEARCH_PATH) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        raise NotInstalled(
            f"MariaDB is not installed: {missing[0]} was not found.",
            "Install it: apt-get install --no-install-recommends mariadb-server-core mariadb-client-core.",
            Exit.USAGE,
        )
    return {name: path for name, path in found.items() if path}


class MariaDB(DatabaseServer):
    """
    MariaDB from the installed programs, see `DatabaseServer`.

    :raises NotInstalled: when its programs are missing.
    """

    product = "MariaDB"
    variables = {"PYTHONPATH": str(LOCAL_SETTINGS)}
    address = "mysql+pymysql://airflow:{password}@127.0.0.1:{port}/{name}?charset=utf8mb4"
    async_driver = ("pymysql", "aiomysql")
    _connections = "SELECT p.id FROM information_schema.processlist p WHERE p.db = :name"
    _open_transactions = (
        f"{_connections} AND p.command = 'Sleep'"
        " AND p.id IN (SELECT trx_mysql_thread_id FROM information_schema.innodb_trx)"
    )
    _delay = 0.2  # the server refreshes innodb_trx every 0.1 s, and only if it was not read since
    _kill = "KILL CONNECTION :id"
    _lock = ("SET lock_wait_timeout = {seconds}", "LOCK TABLES {table} WRITE")

    def __init__(self, folder: Path) -> None:
        self._programs = programs()
        super().__init__(folder)

    def create(self, name: str, template: str | None = None) -> None:
        self._execute(f"CREATE DATABASE {self._quoted(name)}")
        if template is None:
            return
        self.kill_connections(template)
        tables = [
            f"{self._quoted(template)}.{self._quoted(table)}"
            for table in inspect(self._engine).get_table_names(schema=template)
        ]
        with self._engine.connect() as admin:
            made = [admin.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()[1] for table in tables]
        filled = [f"INSERT INTO {table.split('.')[1]} SELECT * FROM {table}" for table in tables]
        # The tables have foreign keys: without checks, they can be created in any order.
        self._execute(f"USE {self._quoted(name)}", "SET foreign_key_checks = 0", *made, *filled)

    def _initialise(self) -> None:
        self._data.mkdir(mode=0o700)
        self._own(self._data)
        options = ("--no-defaults", f"--datadir={self._data}")
        method = ("--auth-root-authentication-method=normal", "--skip-test-db")
        with self._run(self._programs["mariadb-install-db"], *options, *method) as made:
            made.finish(120, "Creating a database (mariadb-install-db)")
        self._init_file.write_text(
            f"CREATE USER IF NOT EXISTS airflow@127.0.0.1 IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL ON *.* TO airflow@127.0.0.1;\n"
        )
        self._own(self._init_file)

    @property
    def _init_file(self) -> Path:
        return self._data / "init.sql"

    def _command(self) -> list[str | Path]:
        return [
            *(self._programs["mariadbd"], "--no-defaults", f"--datadir={self._data}"),
            *(f"--port={self.port}", f"--socket={self._data / 'socket'}", f"--init-file={self._init_file}"),
            *SETTINGS,
        ]
