"""A private MariaDB server that uses the installed programs and ends with this process."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from airflow_auth_patches.demo.databases import NotInstalled, valid_name
from airflow_auth_patches.demo.managed import ManagedProcess
from airflow_auth_patches.demo.networked import Networked
from airflow_auth_patches.util.errors import Exit

#: Debian installs the server in a folder that is not in the PATH of an ordinary user.
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
#: Airflow requires utf8mb4. The index of a long key needs the collation that Airflow names.
SETTINGS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",
    # The data does not need to survive a crash of the machine.
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-doublewrite": "0",
    "sync-binlog": "0",
    "skip-log-bin": None,
    "skip-name-resolve": None,
    "skip-networking": "0",
    "max-connections": "400",
}
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


class MariaDB(Networked):
    """
    MariaDB on a port of 127.0.0.1 with a random password. As root, it runs as ``nobody``.

    :param folder: the folder to create for the data and the log.
    :raises NotInstalled: when its programs are missing.
    :raises Problem: when it does not start.
    """

    product = "MariaDB"
    variables = {"PYTHONPATH": str(LOCAL_SETTINGS)}

    def __init__(self, folder: Path) -> None:
        self._programs = programs()
        super().__init__(folder)
        self._secret = self._data / "init.sql"
        self._initialise()
        self._start()

    def url(self, name: str) -> str:
        return f"mysql+pymysql://airflow:{self._password}@127.0.0.1:{self._port}/{name}?charset=utf8mb4"

    def async_url(self, name: str) -> str:
        return f"mysql+aiomysql://airflow:{self._password}@127.0.0.1:{self._port}/{name}?charset=utf8mb4"

    def create(self, name: str, template: str | None = None) -> None:
        self._ask(f"CREATE DATABASE `{valid_name(name)}`")
        if template is None:
            return
        self.kill_connections(template)
        tables = [row[0] for row in self._ask(f"SHOW TABLES FROM `{valid_name(template)}`")]
        made = [self._ask(f"SHOW CREATE TABLE `{template}`.`{table}`")[0][1] for table in tables]
        filled = [f"INSERT INTO `{table}` SELECT * FROM `{template}`.`{table}`" for table in tables]
        # The tables have foreign keys: without checks, they can be created in any order.
        self._ask(f"USE `{name}`", "SET foreign_key_checks = 0", *made, *filled)

    def drop(self, name: str) -> None:
        self.kill_connections(name)
        self._ask(f"DROP DATABASE IF EXISTS `{valid_name(name)}`")

    def connections(self, name: str) -> int:
        return len(self._connections(name))

    def open_transactions(self, name: str) -> int:
        # The server refreshes this table every 0.1 s, and only if it was not read since.
        time.sleep(0.2)
        rows = self._ask(
            "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
            f" ON p.id = t.trx_mysql_thread_id WHERE p.db = '{valid_name(name)}' AND p.command = 'Sleep'"
        )
        return int(rows[0][0])

    def _end_connections(self, name: str) -> int:
        identities = [row[0] for row in self._connections(name)]
        for identity in identities:
            self._kill(identity)
        return len(identities)

    def _answer(self) -> None:
        self._ask("SELECT 1")

    def _connections(self, name: str) -> list[tuple[Any, ...]]:
        return self._ask(f"SELECT id FROM information_schema.processlist WHERE db = '{valid_name(name)}'")

    def _kill(self, identity: int) -> None:
        import pymysql

        try:
            self._ask(f"KILL CONNECTION {int(identity)}")
        except pymysql.err.OperationalError as error:
            if error.args[0] != 1094:  # the connection is closed already
                raise

    def _initialise(self) -> None:
        self._check_access()
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(self._data, self._user)
        with ManagedProcess(
            [
                *(self._programs["mariadb-install-db"], "--no-defaults", f"--datadir={self._data}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ],
            env=dict(os.environ),
            cwd=self._folder,
            log=self._log,
            user=self._user,
        ) as made:
            made.finish(120, "Creating a database (mariadb-install-db)")
        self._secret.write_text(
            f"CREATE USER IF NOT EXISTS airflow@127.0.0.1 IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL ON *.* TO airflow@127.0.0.1;\n"
        )
        if self._user is not None:
            shutil.chown(self._secret, self._user)

    def _launch(self) -> ManagedProcess:
        words = [f"--{key}" if value is None else f"--{key}={value}" for key, value in SETTINGS.items()]
        return ManagedProcess(
            [
                *(self._programs["mariadbd"], "--no-defaults", f"--datadir={self._data}"),
                *(f"--port={self._port}", f"--socket={self._data / 'socket'}", *words),
                f"--init-file={self._secret}",
            ],
            env=dict(os.environ),
            cwd=self._folder,
            log=self._log,
            grace=20,
            user=self._user,
        )

    def _ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in one connection, and return the rows of the last one."""
        import pymysql

        connection = pymysql.connect(
            host="127.0.0.1",
            port=self._port,
            user="airflow",
            password=self._password,
            autocommit=True,
            connect_timeout=10,
        )
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()
