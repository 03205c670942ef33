"""
Run SQL statements on the database of a running API server, until the standard input ends.

``faults.ServerDatabase`` runs this program with the server's interpreter, in its container or on this
machine. Its argument is the port of the server. It first prints an object with the dialect of the database,
and the size and time-out of the server's pool. Each line of the input is a JSON array: the name of a
connection, and a statement, or ``null`` to close the connection. The answer is an object with the rows or the
error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import psutil


def adopt_environment(port: int) -> None:
    """
    Take over the Airflow variables of the process that listens on a port.

    The server overwrites its own environment with its title, so this reads that of a parent too.
    """
    for process in psutil.process_iter():
        try:
            sockets = process.net_connections("tcp")
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                for each in (process, *process.parents()):
                    found = {key: value for key, value in each.environ().items() if key.startswith("AIRFLOW")}
                    if found:
                        os.environ.update(found)
                        return
        except psutil.Error:  # the process ended, or belongs to another user
            continue


def say(answer: dict[str, Any]) -> None:
    """Print an answer on a line of its own."""
    sys.stdout.write(f"{json.dumps(answer, default=str)}\n")
    sys.stdout.flush()


def main(port: int) -> None:
    """Answer the statements of the standard input."""
    adopt_environment(port)
    conf = importlib.import_module("airflow.configuration").conf
    sqlalchemy = importlib.import_module("sqlalchemy")
    url = conf.get_mandatory_value("database", "sql_alchemy_conn")
    null_pool = importlib.import_module("sqlalchemy.pool").NullPool
    engine = sqlalchemy.create_engine(url, poolclass=null_pool, isolation_level="AUTOCOMMIT")
    sizes = [conf.getint("database", f"sql_alchemy_{key}") for key in ("pool_size", "max_overflow")]
    arguments = json.loads(conf.get("database", "sql_alchemy_engine_args", fallback="") or "{}")
    timeout = arguments.get("pool_timeout", 30)
    say({"dialect": engine.dialect.name, "pool": sum(sizes), "pool_timeout": timeout})
    connections: dict[str, Any] = {}
    for line in sys.stdin:
        name, statement = json.loads(line)
        try:
            if statement is None:
                connections.pop(name).close()
                say({"rows": []})
                continue
            if name not in connections:
                connections[name] = engine.connect()
            result = connections[name].exec_driver_sql(statement)
            say({"rows": [list(row) for row in result] if result.returns_rows else []})
        except Exception as error:
            say({"error": str(getattr(error, "orig", error)).strip()})


if __name__ == "__main__":
    main(int(sys.argv[1]))
