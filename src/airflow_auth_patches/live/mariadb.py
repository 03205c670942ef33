"""A private MariaDB server, from the programs that the system has, which ends with this process."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.live.databases import DatabaseServer, checked
from airflow_auth_patches.live.kept import Kept
from airflow_auth_patches.live.ports import free_port
from airflow_auth_patches.live.postgresql import traversable

#: Debian keeps the server where an ordinary user's PATH does not look.
PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
#: Airflow asks for utf8mb4; the index of a long key needs the collation that it names.
SETTINGS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",
    # The data need not outlive a crash of the machine.
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-doublewrite": "0",
    "sync-binlog": "0",
    "skip-log-bin": None,
    "skip-name-resolve": None,
    "skip-networking": "0",
    "max-connections": "400",
}


def programs() -> dict[str, str]:
    """
    Find MariaDB's programs.

    :return: ``{name: path}``; those that are called here, and one that they call.
    :raises Problem: when one is missing.
    """
    names = ("mariadbd", "mariadb-install-db", "my_print_defaults")
    found = {name: shutil.which(name, path=PLACES) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        raise Problem(
            f"MariaDB is not installed: there is no {missing[0]}.",
            "Install it: apt-get install --no-install-recommends mariadb-server-core mariadb-client-core.",
            Exit.USAGE,
        )
    return {name: path for name, path in found.items() if path}


class MariaDB(DatabaseServer):
    """
    MariaDB on a port of 127.0.0.1 with a random password; as root, it runs as ``nobody``.

    :param folder: a folder to make, for the data and the log.
    :raises Problem: when it is not installed or does not start.
    """

    product = "MariaDB"

    def __init__(self, folder: Path) -> None:
        self._programs = programs()
        self._folder = folder
        self._password = secrets.token_hex(16)
        self._user = "nobody" if os.geteuid() == 0 else None
        self._data = folder / "data"
        self._log = folder / "log"
        self._port = 0
        self._server: Kept | None = None
        folder.mkdir(mode=0o711)
        self._initialise()
        self._start()

    def url(self, name: str) -> str:
        return f"mysql+pymysql://airflow:{self._password}@127.0.0.1:{self._port}/{name}?charset=utf8mb4"

    def async_url(self, name: str) -> str:
        return f"mysql+aiomysql://airflow:{self._password}@127.0.0.1:{self._port}/{name}?charset=utf8mb4"

    def create(self, name: str, template: str | None = None) -> None:
        self._ask(f"CREATE DATABASE `{checked(name)}`")
        if template is None:
            return
        self.kill_connections(template)
        tables = [row[0] for row in self._ask(f"SHOW TABLES FROM `{checked(template)}`")]
        made = [self._ask(f"SHOW CREATE TABLE `{template}`.`{table}`")[0][1] for table in tables]
        filled = [f"INSERT INTO `{table}` SELECT * FROM `{template}`.`{table}`" for table in tables]
        # The tables refer to each other: checked, they could be made in one order only.
        self._ask(f"USE `{name}`", "SET foreign_key_checks = 0", *made, *filled)

    def drop(self, name: str) -> None:
        self.kill_connections(name)
        self._ask(f"DROP DATABASE IF EXISTS `{checked(name)}`")

    def kill_connections(self, name: str) -> int:
        told = [row[0] for row in self._connections(name)]
        deadline = time.monotonic() + 10
        for identity in told:
            self._kill(identity)
        while self._connections(name):
            if time.monotonic() > deadline:
                raise Problem(f"MariaDB did not end the connections to {name}.", "", Exit.FAILED)
            time.sleep(0.005)
        return len(told)

    def connections(self, name: str) -> int:
        return len(self._connections(name))

    def open_transactions(self, name: str) -> int:
        # The server refreshes this table ten times a second, and only when nobody read it meanwhile.
        time.sleep(0.2)
        rows = self._ask(
            "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
            f" ON p.id = t.trx_mysql_thread_id WHERE p.db = '{checked(name)}' AND p.command = 'Sleep'"
        )
        return int(rows[0][0])

    def restart(self) -> None:
        self.stop()
        self._start(self._port)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _connections(self, name: str) -> list[tuple[Any, ...]]:
        return self._ask(f"SELECT id FROM information_schema.processlist WHERE db = '{checked(name)}'")

    def _kill(self, identity: int) -> None:
        import pymysql

        try:
            self._ask(f"KILL CONNECTION {int(identity)}")
        except pymysql.err.OperationalError as error:
            if error.args[0] != 1094:  # it is gone already
                raise

    def _initialise(self) -> None:
        if self._user is not None and not traversable(self._folder):
            raise Problem(
                f"MariaDB is not run as root, and the user {self._user} cannot reach {self._folder}.",
                "Run as an ordinary user, or let TMPDIR name a folder that everyone can pass through.",
                Exit.USAGE,
            )
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(self._data, self._user)
        with Kept(
            [
                *(self._programs["mariadb-install-db"], "--no-defaults", f"--datadir={self._data}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ],
            env=dict(os.environ),
            cwd=self._folder,
            log=self._log,
            user=self._user,
        ) as made:
            made.finish(120, "Making a database (mariadb-install-db)")

    def _start(self, port: int = 0) -> None:
        first = not port
        self._port = port or free_port()
        words = [f"--{key}" if value is None else f"--{key}={value}" for key, value in SETTINGS.items()]
        if first:
            secret = self._data / "init.sql"
            secret.write_text(
                f"CREATE USER airflow@127.0.0.1 IDENTIFIED BY '{self._password}';\n"
                "GRANT ALL ON *.* TO airflow@127.0.0.1;\n"
            )
            if self._user is not None:
                shutil.chown(secret, self._user)
            words.append(f"--init-file={secret}")
        self._server = Kept(
            [
                *(self._programs["mariadbd"], "--no-defaults", f"--datadir={self._data}"),
                *(f"--port={self._port}", f"--socket={self._data / 'socket'}", *words),
            ],
            env=dict(os.environ),
            cwd=self._folder,
            log=self._log,
            grace=20,
            user=self._user,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self._ask("SELECT 1")
                break
            except Exception as error:
                if not self._server.running or time.monotonic() > deadline:
                    tail = self._server.tail()
                    self.stop()
                    raise Problem(f"MariaDB did not start:\n{tail}", "", Exit.FAILED) from error
                time.sleep(0.05)
        if first:
            secret.unlink()

    def _ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in one connection; return the rows of the last."""
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
