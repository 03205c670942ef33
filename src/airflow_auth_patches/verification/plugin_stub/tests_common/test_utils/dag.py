"""Dags in the metadata database."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import NEW_SESSION, provide_session

try:
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
except ImportError:  # Airflow 3.1
    from airflow.models.dagbag import DagBag, sync_bag_to_db

if TYPE_CHECKING:
    from airflow.sdk import DAG

BUNDLE = "testing"


@provide_session
def sync_bag(bag: DagBag, session: Any = NEW_SESSION) -> None:
    """Write the Dags of a bag to the database, in the bundle of the tests."""
    session.merge(DagBundleModel(name=BUNDLE))
    session.flush()
    sync_bag_to_db(bag, BUNDLE, None, session=session)


@provide_session
def sync_dag_to_db(dag: DAG, session: Any = NEW_SESSION) -> None:
    """Write a Dag to the database, like one parsed from a file."""
    bag = DagBag(os.devnull, collect_dags=False)
    bag.dags = {dag.dag_id: dag}
    sync_bag(bag, session=session)
