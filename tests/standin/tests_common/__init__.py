"""
A small stand-in for the test plugin of Airflow's monorepo.

The files under ``airflow-core/tests`` and ``providers/fab/tests`` are written to run inside the monorepo,
where they import ``tests_common``. That package is not released for the versions of the series, so what
those tests use of it is here: ``conf_vars``, the markers and a database of their own.
"""
