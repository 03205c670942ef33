"""Inspect an installed Airflow, build patched wheels of it, and install them as a transaction."""
