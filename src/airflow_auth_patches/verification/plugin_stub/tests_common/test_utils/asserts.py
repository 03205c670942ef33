"""Assertions on database queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from airflow import settings


@contextmanager
def assert_queries_count(expected_count: int) -> Iterator[None]:
    """
    Fail if a ``with`` block sends more statements to the metadata database.

    :param expected_count: the maximum number of statements. Fewer are accepted, as in the monorepo.
    """
    statements: list[str] = []

    def record(connection, cursor, statement, *_) -> None:
        statements.append(statement)

    event.listen(settings.engine, "after_cursor_execute", record)
    try:
        yield
    finally:
        event.remove(settings.engine, "after_cursor_execute", record)
    assert len(statements) <= expected_count, "\n".join(statements)
