"""The Airflow version, by the names of the monorepo."""

from __future__ import annotations

from packaging.version import Version

from airflow import __version__

_release = Version(Version(__version__).base_version)

AIRFLOW_V_3_0_PLUS = _release >= Version("3.0")
AIRFLOW_V_3_1_PLUS = _release >= Version("3.1")
AIRFLOW_V_3_2_PLUS = _release >= Version("3.2")
AIRFLOW_V_3_3_PLUS = _release >= Version("3.3")
