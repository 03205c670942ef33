# shellcheck shell=sh disable=SC2034
# Sourced by the scripts beside it: sets `tool` to the command that they call.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 2
root=$(dirname -- "$here")
if command -v airflow-auth-patches >/dev/null 2>&1; then
    tool=airflow-auth-patches
elif [ -x "$root/.venv/bin/airflow-auth-patches" ]; then
    tool=$root/.venv/bin/airflow-auth-patches
else
    echo "airflow-auth-patches is neither on PATH nor in $root/.venv: run 'make setup' in $root." >&2
    exit 2
fi
