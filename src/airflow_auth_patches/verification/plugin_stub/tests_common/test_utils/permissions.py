"""The name of a permission on one Dag."""

from __future__ import annotations

from airflow.providers.fab.www.security import permissions


def _resource_name(dag_id: str, resource_name: str) -> str:
    return permissions.resource_name(dag_id, resource_name)
