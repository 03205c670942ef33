"""Operator links, for tests of plugins with operator links."""

from __future__ import annotations

from airflow.sdk import BaseOperatorLink


class _Link(BaseOperatorLink):
    address = ""

    def get_link(self, operator, *, ti_key) -> str:
        """Return the address, which is the same for every task instance."""
        return self.address


class AirflowLink(_Link):
    name = "airflow"
    address = "https://airflow.apache.org"


class AirflowLink2(_Link):
    name = "airflow"
    address = "https://airflow.apache.org/docs"


class GithubLink(_Link):
    name = "github"
    address = "https://github.com/apache/airflow"


class GoogleLink(_Link):
    name = "google"
    address = "https://www.google.com"


class CustomOpLink(_Link):
    name = "Google Custom"
    address = "https://www.google.com/custom"


class CustomBaseIndexOpLink(_Link):
    """One of several links, with its number."""

    def __init__(self, index: int) -> None:
        self.index = index

    @property
    def name(self) -> str:
        """The name, with the number."""
        return f"BigQuery Console #{self.index + 1}"
