"""Run the unit tests of every patch of a pair of releases: on stock, patched, and with each mutant."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from airflow_auth_patches.installation import environments, installed
from airflow_auth_patches.installation.pair_environments import (
    alone_environment,
    folder_of,
    patched_environment,
)
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series, unlisted
from airflow_auth_patches.util.errors import UsageProblem
from airflow_auth_patches.util.processes import workers
from airflow_auth_patches.util.progress import SILENT, Progress
from airflow_auth_patches.verification import expectations, reproduce, unit_tests


@contextmanager
def few_at_once() -> Iterator[ThreadPoolExecutor]:
    """
    Return a pool of three threads for pytest runs. A run takes one core, and tests often wait for a time-out.

    Work that has not started at the end of the ``with`` block is cancelled.
    """
    with workers(3) as pool:
        yield pool


def check_arguments(series: Series, pairs: Sequence[Pair], names: Sequence[str], python: str) -> None:
    """
    Check that every pair supports the Python version, and that every named patch serves one of the pairs.

    :raises Problem: for the first pair or patch that fails the check.
    """
    for pair in pairs:
        if python not in pair.pythons:
            raise UsageProblem(
                f"{pair.name} does not support Python {python}.", f"Choose one of {', '.join(pair.pythons)}."
            )
    every = (*series.patches, *unlisted(series.folder))
    for name in names:
        forms = [patch for patch in every if patch.slug == name]
        if forms and not any(form.serves(each) for form in forms for p in pairs for each in (p.core, p.fab)):
            ranges = " and ".join(" ".join(form.trailers["Applies-To"]) for form in forms)
            raise UsageProblem(
                f"{name} serves none of {', '.join(pair.name for pair in pairs)}.",
                f"It applies to {ranges}. Choose another --pair.",
            )


def prove(
    project: Project,
    pair: Pair,
    python: str,
    names: Sequence[str] | None = None,
    *,
    tests: bool = True,
    mutants: bool | Collection[str] = True,
    progress: Progress = SILENT,
) -> Generator[unit_tests.Result, None, None]:
    """
    Run the unit tests of the patches that serve a pair, and yield each result when it is available.

    The tests of a patch that no ``series`` file lists also run. They fail, because the patch is not applied.
    If the expectations of a patch have ``alone``, its tests also run with only that patch applied, when its
    mutants run and on the newest pair. If the pair has a ``base``, the outcomes of that patch are compared
    with stock, and the outcomes of the others with stock plus that patch.

    :param names: the slugs of the patches; by default all that serve the pair.
    :param tests: whether to run the tests without mutants.
    :param mutants: whether to also run the tests with each mutant, or the slugs of the patches whose mutants
        run.
    :raises Problem: when an environment cannot be created.
    """
    every = (*project.series.patches, *unlisted(project.series.folder))
    if names is not None:
        replace(project.series, patches=every).known(names)
    serving: list[Patch] = [
        patch
        for patch in every
        if (patch.serves(pair.core) or patch.serves(pair.fab)) and (names is None or patch.slug in names)
    ]
    if not serving:
        return
    stock = environments.make(pair, python, folder_of(project.root, pair, python, "stock"), progress)
    base = stock
    if pair.base:
        base = patched_environment(
            project.root,
            project.series,
            project.releases,
            pair,
            python,
            progress,
            kind="base",
            only=[pair.base],
        )
    patched = patched_environment(project.root, project.series, project.releases, pair, python, progress)
    known = {patch.slug: expectations.load(project.series.folder, patch.slug) for patch in serving}
    files = [expected.file for expected in known.values()] if tests else []
    first = [expected.file for slug, expected in known.items() if tests and slug == pair.base]
    others = [file for file in files if file not in first]
    alone = [
        slug
        for slug, expected in known.items()
        if expected.alone and mutants and pair == project.releases.newest_pair
    ]
    mine = [
        (patch.slug, mutant)
        for patch in serving
        if (mutants if isinstance(mutants, bool) else patch.slug in mutants)
        for mutant in known[patch.slug].mutants_of(patch)
    ]
    total = 2 * len(files) + len(alone) + len(mine)
    with progress.task(f"testing {pair.name} on Python {python}", total) as advance:
        with few_at_once() as pool:
            # Two runs per environment, so a file that waits for a time-out delays only half of the others.
            halves = [
                (compare, some, pool.submit(reproduce.run_files, project.root, environment, some))
                for compare, environment, asked in (
                    (unit_tests.compare_stock, stock, first),
                    (unit_tests.compare_stock, base, others),
                    (unit_tests.compare_patched, patched, files),
                )
                for some in (asked[::2], asked[1::2])
            ]
            for compare, some, half in halves:
                outcomes = half.result()
                for slug, expected in known.items():
                    if expected.file in some:
                        yield compare(expected, slug, outcomes[expected.file])
                        advance(1)
            if mine:
                site = installed.look(patched.python, project.releases).found[0].site
                killed = [
                    pool.submit(unit_tests.run_mutant, project.root, known[slug], slug, mutant, patched, site)
                    for slug, mutant in mine
                ]
                for run in killed:
                    yield run.result()
                    advance(1)
            for slug in alone:  # in sequence: they share an environment
                environment = alone_environment(
                    project.root, project.series, project.releases, pair, python, slug, progress
                )
                ran = unit_tests.run_tests(project.root, environment, known[slug].file)
                yield unit_tests.compare_patched(known[slug], slug, ran, "alone")
                advance(1)
