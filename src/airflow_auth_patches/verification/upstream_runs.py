"""Run upstream's tests on a pair of releases, stock and patched, and compare the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.installation.pair_environments import folder_of, patched_environment
from airflow_auth_patches.releases.checkout import commit_of
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.processes import workers
from airflow_auth_patches.util.progress import SILENT, Progress
from airflow_auth_patches.verification import core_tests, upstream


def run_provider_tests(
    project: Project, pair: Pair, python: str, expression: str | None = None, progress: Progress = SILENT
) -> upstream.Comparison:
    """
    Run the tests of the provider's sdist on stock and on patched, each with a new ``AIRFLOW_HOME``.

    If unlisted tests pass only on stock, all tests run again on both. A test that differs again is broken.

    :param expression: pytest's ``-k``; by default all tests run.
    :raises Problem: when an environment cannot be created, or a run gives no report.
    """
    listed = [entry for entry in upstream.load(project.series.folder) if entry.serves(pair.fab)]
    folder = upstream.unpack(project.root, pair.fab, progress)
    stock = environments.make(pair, python, folder_of(project.root, pair, python, "stock"), progress)
    patched = patched_environment(project.root, project.series, project.releases, pair, python, progress)
    extra = upstream.packages(project.root, pair, python, stock, progress)

    def run(environment: Environment) -> Mapping[str, str]:
        return upstream.run_sdist(project.root, folder, extra, environment, expression)

    return compare_runs(run, stock, patched, pair, listed, progress, whole=expression is None)


def run_core_tests(
    project: Project,
    pair: Pair,
    python: str,
    checkout: Path,
    at: str = "HEAD",
    only: Sequence[str] = (),
    expression: str | None = None,
    progress: Progress = SILENT,
) -> upstream.Comparison:
    """
    Run the tests of core from a checkout of Airflow on stock and on patched.

    See :func:`run_provider_tests` for the second run.

    :param checkout: the checkout, near the release of core; it is not changed.
    :param at: the commit whose tests run.
    :param only: files and folders below ``airflow-core/tests/unit``; by default the tests of patched files.
    :raises Problem: when the path is no checkout, an environment cannot be created, or a run gives no report.
    """
    listed = [entry for entry in upstream.load(project.series.folder) if entry.serves(pair.core)]
    packages = core_tests.PACKAGES
    commit = commit_of(checkout, pair.core, at)
    folder = folder_of(project.root, pair, python, "stock-core-tests")
    stock = environments.make(pair, python, folder, progress, packages=packages)
    patched = patched_environment(
        project.root,
        project.series,
        project.releases,
        pair,
        python,
        progress,
        kind="patched-core-tests",
        packages=packages,
    )
    folders = {}
    for kind, environment in (("stock", stock), ("patched", patched)):
        folders[environment] = project.root / "build" / "upstream" / f"core-{pair.core.version}-{kind}"
        with progress.task(f"unpacking {commit[:10]} with the {kind} core"):
            core_tests.unpack(checkout, commit, environment, folders[environment])
    paths = [f"{core_tests.ROOT}/{each}" for each in only]
    paths = paths or core_tests.paths(folders[stock], project.series.serving(pair.core))

    def run(environment: Environment) -> Mapping[str, str]:
        return core_tests.run(folders[environment], environment, paths, expression)

    return compare_runs(run, stock, patched, pair, listed, progress, whole=not only and expression is None)


def compare_runs(
    run: Callable[[Environment], Mapping[str, str]],
    stock: Environment,
    patched: Environment,
    pair: Pair,
    listed: Sequence[upstream.Listed],
    progress: Progress,
    *,
    whole: bool,
) -> upstream.Comparison:
    """
    Run the same tests on stock and on patched, and once more if unlisted tests pass only on stock.

    :param run: run the tests in an environment, and return the outcomes.
    :param listed: the entries of the list for the release.
    :param whole: whether ``run`` runs all tests, see :func:`.upstream.compare`.
    """

    def both(title: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        with progress.task(title), workers(2) as pool:
            on_stock, on_patched = (pool.submit(run, environment) for environment in (stock, patched))
            return on_stock.result(), on_patched.result()

    on_stock, on_patched = both(f"running upstream's tests on {pair.name}, stock and patched")
    again = None
    if differ := upstream.unlisted(upstream.differing(on_stock, on_patched), listed):
        again = both(f"running all tests again, because {len(differ)} differ")
    return upstream.compare(on_stock, on_patched, listed, again, whole=whole)
