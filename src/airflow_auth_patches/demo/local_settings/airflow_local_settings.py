"""
Airflow's local settings where MySQL's protocol is spoken by PyMySQL, which needs no compiler.

Airflow imports the other driver, ``MySQLdb``, whichever one its connection names, and does not start without
it. PyMySQL can stand in its place, but for one name that Airflow looks up.
"""

from __future__ import annotations

import sys

import pymysql
from pymysql import converters

pymysql.install_as_MySQLdb()
converters.DateTime2literal = converters.escape_datetime  # type: ignore[attr-defined]
# Else the import of it makes a second copy, which would take the place of the one that PyMySQL uses.
sys.modules["MySQLdb.converters"] = converters
