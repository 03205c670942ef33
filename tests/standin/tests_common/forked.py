"""
Pytest plugin: the tests of each file in a child of their own, forked when all is imported: that costs most.

Where ``AUTH_PATCHES_ONLY`` has ids of tests, a line each, a parametrised one without its parameter, only
those are run, each in a child of its own.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator

import pytest
from _pytest.runner import runtestprotocol


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
        unseen = {item.nodeid: item for item in items}
        for report in _run(items):
            unseen.pop(report.nodeid, None)
            session.config.hook.pytest_runtest_logreport(report=report)
        for item in unseen.values():
            said = "Its process ended before it."
            lost = pytest.TestReport(item.nodeid, item.location, {}, "failed", said, "call")
            session.config.hook.pytest_runtest_logreport(report=lost)
    return True


def _run(items: list[pytest.Item]) -> Iterator[pytest.TestReport]:
    """Run tests in a child and give what it reports, one after the other."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                # Nothing comes after the last: the fixtures of the session are the child's own.
                for item, following in zip(items, [*items[1:], None], strict=True):
                    for report in runtestprotocol(item, log=False, nextitem=following):
                        plain = item.config.hook.pytest_report_to_serializable(
                            config=item.config, report=report
                        )
                        pipe.write(json.dumps(plain, default=str) + "\n")
                        pipe.flush()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        for line in pipe:
            yield items[0].config.hook.pytest_report_from_serializable(
                config=items[0].config, data=json.loads(line)
            )
    os.waitpid(child, 0)
