"""Run upstream's own tests on a pair of releases, stock and patched, and compare."""

from __future__ import annotations

from pathlib import Path

from airflow_auth_patches import environments
from airflow_auth_patches import upstream as room
from airflow_auth_patches.commands.prove import folder_of, patched_environment
from airflow_auth_patches.processes import workers
from airflow_auth_patches.progress import Progress, Silent
from airflow_auth_patches.releases import Pair, Pins
from airflow_auth_patches.series import Series


def judge(
    root: Path,
    series: Series,
    pins: Pins,
    pair: Pair,
    python: str,
    expression: str | None = None,
    progress: Progress | None = None,
) -> room.Comparison:
    """
    Run the tests of the provider's sdist on stock and on patched, each on a fresh ``AIRFLOW_HOME``.

    Where tests pass on stock only, and no entry of the list says so, all are run once more, on both: what
    differs again is broken.

    :param root: the checkout of this project.
    :param python: the Python version, as in ``3.11``.
    :param expression: pytest's ``-k``; by default all tests are run.
    :raises Problem: when an environment cannot be made, or a run gives no report.
    """
    progress = progress or Silent()
    listed = [entry for entry in room.load(series.folder) if entry.serves(pair.fab)]
    folder = room.unpack(root, pair.fab, progress)
    stock = environments.make(pair, python, folder_of(root, pair, python, "stock"), progress)
    patched = patched_environment(root, series, pins, pair, python, progress)
    extra = room.packages(root, pair, python, stock, progress)

    def both(title: str) -> tuple[dict[str, str], dict[str, str]]:
        with progress.task(title), workers(2) as pool:
            on_stock, on_patched = (
                pool.submit(room.run_sdist, root, folder, extra, environment, expression)
                for environment in (stock, patched)
            )
            return on_stock.result(), on_patched.result()

    on_stock, on_patched = both(f"running upstream's tests on {pair.name}, stock and patched")
    again = None
    if differ := room.unlisted(room.differing(on_stock, on_patched), listed):
        again = both(f"running all of them once more, as {len(differ)} differ")
    return room.compare(on_stock, on_patched, listed, again, whole=expression is None)
