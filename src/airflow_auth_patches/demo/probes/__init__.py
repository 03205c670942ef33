"""
In-process probes: plugins that are copied into the plugins folder of an API server before it boots.

They run in the environment of Airflow, where this package is not installed. They must not import it or each
other.
"""
