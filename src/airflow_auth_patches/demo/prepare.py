"""
Prepare a database for an API server, in one Python process of the Airflow environment.

``preparation.Preparation`` runs this file as a separate program. It runs the commands that an operator would
enter, but imports Airflow only once. Each argument is one command, with its words separated by spaces.
"""

from __future__ import annotations

import importlib
import sys


def main(commands: list[str]) -> None:
    """
    Run Airflow commands in sequence, and stop at the first that fails.

    :param commands: commands such as ``db migrate``.
    :raises SystemExit: with the exit code of the command that failed.
    """
    airflow = importlib.import_module("airflow.__main__").main
    for command in commands:
        sys.argv = ["airflow", *command.split()]
        try:
            airflow()
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    main(sys.argv[1:])
