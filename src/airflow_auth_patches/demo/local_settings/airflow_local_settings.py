"""
Airflow's local settings for PyMySQL, a MySQL driver that needs no compiler.

Airflow always imports the driver ``MySQLdb``, even if its connection uses another driver, and does not start
without it. PyMySQL can replace ``MySQLdb``, except for one name that Airflow uses.
"""

from __future__ import annotations

import sys

import pymysql
from pymysql import converters

pymysql.install_as_MySQLdb()
converters.DateTime2literal = converters.escape_datetime  # type: ignore[attr-defined]
# Without this, importing the module creates a second copy that replaces the one that PyMySQL uses.
sys.modules["MySQLdb.converters"] = converters
