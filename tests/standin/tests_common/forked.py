"""
Pytest plugin: the tests of each file in a child of their own, forked when all is imported: that costs most.

Where ``AUTH_PATCHES_ONLY`` has ids of tests, a line each, a parametrised one without its parameter, only
those are run, each in a child of its own.

A test has its time-out, as ever; a child that is stuck where no time-out helps is ended.
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

#: Seconds that one test may take: more than its time-out, which a loop outside of the test's code survives.
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
    """Writes the reports of a child, for its parent to read."""

    def __init__(self, config: pytest.Config, pipe: TextIO) -> None:
        self.config, self.pipe = config, pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        plain = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.pipe.write(json.dumps(plain, default=str) + "\n")
        self.pipe.flush()


def _run(items: list[pytest.Item]) -> Iterator[pytest.TestReport]:
    """Run tests in a child and give what it reports, one after the other."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                items[0].config.pluginmanager.register(_Teller(items[0].config, pipe))
                # Nothing comes after the last: the fixtures of the session are the child's own.
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
