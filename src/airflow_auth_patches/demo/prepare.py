"""
Gets a database ready for an API server, in one Python process of the Airflow environment.

This file is a program of its own, run by ``preparation.Preparation``: the commands that an operator would
enter, without importing Airflow anew for each. An argument is one command, its words separated by spaces.
"""

from __future__ import annotations

import importlib
import sys


def main(commands: list[str]) -> None:
    """
    Run Airflow commands one after the other, up to the first that fails.

    :param commands: such as ``db migrate``.
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
