"""Run the reproducers of the bugs on releases, and record the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.pair_environments import folder_of, patched_environment
from airflow_auth_patches.releases.releases import CORE, Pair, Release
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding, Result
from airflow_auth_patches.series.bugs import Bug
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.errors import UsageProblem
from airflow_auth_patches.util.progress import SILENT, Progress
from airflow_auth_patches.verification import affected_page, inputs, outdated, reproduce
from airflow_auth_patches.verification.prove import few_at_once


def judge(
    project: Project,
    python: str,
    wanted: Sequence[Release],
    *,
    again: bool = False,
    progress: Progress = SILENT,
) -> Iterator[list[Finding]]:
    """
    Run the reproducers on releases, and record the results of each release as soon as it is finished.

    A reproducer whose recorded result is up to date does not run again.

    :param again: whether to run those again too.
    :return: an iterator of the findings, one list per release.
    :raises Problem: when a release does not support that Python, or an environment cannot be created.
    """
    for release in wanted:
        if python not in release.pythons:
            raise UsageProblem(
                f"{release} does not support Python {python}.", f"Choose one of {', '.join(release.pythons)}."
            )
    results = outdated.of_the_series(project, affected.read(project.series.folder))
    with progress.task("running reproducers", len(wanted)) as advance:
        for release in wanted:
            bugs = [
                b for b in project.series.bugs.values() if affected.distribution_of(b) is release.distribution
            ]
            known = results.setdefault(str(release), {})
            due = [bug for bug in bugs if again or outdated.is_due(project, results, bug, release, python)]
            for pair in dict.fromkeys(inputs.companion(project.releases, bug, release) for bug in due):
                some = [bug for bug in due if inputs.companion(project.releases, bug, release) == pair]
                held = {
                    bug.slug: known[bug.slug].stock
                    for bug in some
                    if not again and outdated.stock_holds(project, results, bug, release, python)
                }
                known.update(_run(project, python, release, pair, some, held, progress))
                affected.write(project.series.folder, results)
                affected_page.write(project, results)
            yield [affected.judge(project, results, bug, release) for bug in bugs]
            advance(1)
    affected_page.write(project, results)  # its text may change even if no reproducer ran


def _run(
    project: Project,
    python: str,
    release: Release,
    pair: Pair,
    bugs: Sequence[Bug],
    held: Mapping[str, str],
    progress: Progress,
) -> dict[str, Result]:
    """Run reproducers and return the results; ``held`` has the stock outcomes that are up to date."""
    other = pair.fab if release.distribution is CORE else pair.core
    asked = [bug for bug in bugs if bug.slug not in held]
    cured = [bug for bug in bugs if affected.cures(project.series, bug, release)]
    with few_at_once() as pool:
        runs = {}
        if asked:
            stock = environments.make(pair, python, folder_of(project.root, pair, python, "stock"), progress)
            runs["stock"] = pool.submit(reproduce.reproduce, project.root, stock, asked)
        if cured:
            patched = patched_environment(
                project.root, project.series, project.releases, pair, python, progress
            )
            runs["patched"] = pool.submit(reproduce.reproduce, project.root, patched, cured)
        title = f"running {len(asked)} reproducers on stock and {len(cured)} on patched {release}"
        with progress.task(title):
            found = {kind: run.result() for kind, run in runs.items()}
    before, after = {**held, **found.get("stock", {})}, found.get("patched", {})
    return {
        bug.slug: Result(
            str(other),
            python,
            inputs.digest(project.root, bug),
            before[bug.slug],
            after.get(bug.slug),
            affected.edits(project.series, bug, release),
            inputs.fingerprint(project, pair, python, patched=bug in cured),
            inputs.fingerprint(project, pair, python, patched=False),
        )
        for bug in bugs
    }
