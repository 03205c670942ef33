"""An installed Airflow: looked at, built anew as wheels with patches, and changed as a transaction."""
