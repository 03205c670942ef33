"""
Pytest plugin: run the tests of each file in a separate child process, forked after the imports.

Importing Airflow takes longer than the tests. If ``AUTH_PATCHES_ONLY`` has ids of tests, one per line and
without parameters, only these run, each in its own child process.

The time-out of a test applies. A child process that does not react to it is ended.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest

#: Seconds after which a child process is ended; longer than the time-out of a test.
LONGEST = float(os.environ.get("AUTH_PATCHES_LONGEST", "300"))


def _only() -> list[str]:
    return os.environ.get("AUTH_PATCHES_ONLY", "").splitlines()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if wanted := _only():
        items[:] = [item for item in items if item.nodeid.partition("[")[0] in wanted]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    alone = bool(_only())
    for _, some in itertools.groupby(session.items, lambda item: item.nodeid if alone else str(item.path)):
        items = list(some)
        unended = {item.nodeid: item for item in items}
        for report in _run(items):
            if report.when == "teardown":
                del unended[report.nodeid]
            session.config.hook.pytest_runtest_logreport(report=report)
        for item in unended.values():
            said = "Its process ended before it."
            lost = pytest.TestReport(item.nodeid, item.location, {}, "failed", said, "call")
            session.config.hook.pytest_runtest_logreport(report=lost)
    return True


class _Teller:
    """Write the reports of a child process to a pipe, for its parent."""

    def __init__(self, config: pytest.Config, pipe: TextIO) -> None:
        self.config, self.pipe = config, pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        plain = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.pipe.write(json.dumps(plain, default=str) + "\n")
        self.pipe.flush()


def _run(items: list[pytest.Item]) -> Iterator[pytest.TestReport]:
    """Run tests in a child process, and yield its reports."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                items[0].config.pluginmanager.register(_Teller(items[0].config, pipe))
                # The child process has its own session fixtures, so that no test follows the last one.
                for item, following in zip(items, [*items[1:], None], strict=True):
                    faulthandler.dump_traceback_later(LONGEST, exit=True, file=sys.__stderr__)
                    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        for line in pipe:
            yield items[0].config.hook.pytest_report_from_serializable(
                config=items[0].config, data=json.loads(line)
            )
    os.waitpid(child, 0)
