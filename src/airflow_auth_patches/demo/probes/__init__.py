"""
What runs inside an API server: each module is copied into its plugins folder before it boots.

They run in the environment of Airflow, which lacks this package: they import nothing of it, nor each other.
"""
