"""Verify the series: lint, unit tests, mutants, reproducers, upstream's tests and the test matrix."""
