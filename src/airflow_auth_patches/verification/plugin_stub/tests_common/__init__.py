"""
A stub of the pytest plugin of Airflow's monorepo.

The tests under ``airflow-core/tests`` and ``providers/fab/tests`` import ``tests_common``, a package of the
monorepo that is not released. The stub has what they use of it: ``conf_vars``, the markers and a database.
"""
