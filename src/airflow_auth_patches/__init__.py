"""A maintained patch series for the authentication path of Apache Airflow's API server."""
