"""
Pytest plugin: each test in a child of its own, forked when all is imported, as that is what costs most.

``AUTH_PATCHES_ONLY`` has the ids of the tests to run, a line each, a parametrised one without its parameter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from _pytest.runner import runtestprotocol


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wanted = os.environ["AUTH_PATCHES_ONLY"].splitlines()
    items[:] = [item for item in items if item.nodeid.partition("[")[0] in wanted]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool:
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _run(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _run(item: pytest.Item) -> Iterator[pytest.TestReport]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reading)
            # Nothing comes after it: the fixtures of the session are its own.
            reports = runtestprotocol(item, log=False, nextitem=None)
            plain = item.config.hook.pytest_report_to_serializable
            told = [plain(config=item.config, report=report) for report in reports]
            with os.fdopen(writing, "w") as pipe:
                json.dump(told, pipe, default=str)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        yield pytest.TestReport(
            item.nodeid, item.location, {}, "failed", f"Its process ended with status {status}.", "call"
        )
        return
    for data in json.loads(text):
        yield item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
