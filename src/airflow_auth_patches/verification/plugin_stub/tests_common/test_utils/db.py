"""Add Dags to the metadata database, and remove rows."""

from __future__ import annotations

import inspect
import os
from typing import Any

from sqlalchemy import delete

from airflow.jobs.job import Job
from airflow.models import DagModel, DagRun, Pool, TaskInstance
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.db import add_default_pool_if_not_exists
from airflow.utils.session import create_session

from tests_common.test_utils.dag import DagBag, sync_bag


def _delete(*models: Any) -> None:
    with create_session() as session:
        for model in models:
            session.execute(delete(model))


def parse_and_sync_to_db(folder: str | os.PathLike[str], include_examples: bool = False) -> DagBag:
    """
    Parse the Dags of a folder and write them to the database.

    :param include_examples: ignored. Some of Airflow's examples need plugins that are not loaded here, and no
        test uses one.
    """
    takes = inspect.signature(DagBag).parameters
    bag = DagBag(folder, **({"include_examples": False} if "include_examples" in takes else {}))
    sync_bag(bag)
    return bag


def clear_db_runs() -> None:
    """Delete all Dag runs, task instances and jobs."""
    _delete(Job, TaskInstance, DagRun)


def clear_db_dags() -> None:
    """Delete all Dags, with the rows that refer to them."""
    _delete(DagVersion, DagModel)


def clear_db_dag_bundles() -> None:
    """Delete all bundles."""
    _delete(DagBundleModel)


def clear_db_pools() -> None:
    """Delete all pools except the default one."""
    with create_session() as session:
        session.execute(delete(Pool))
        add_default_pool_if_not_exists(session=session)
