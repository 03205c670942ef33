"""Send patches upstream: commits, pull requests, backports, Airflow checkouts, Breeze, upstream's lint."""
