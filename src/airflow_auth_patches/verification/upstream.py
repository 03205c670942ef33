"""
Upstream's own tests as the judge: what passes on a stock release passes on the patched one.

The sdist of the FAB provider holds its tests. They are unpacked below ``build/``, never committed, and run
with the stand-in plugin of ``tests/standin``, stock and patched alike. ``patches/upstream-tests.toml`` lists
the tests that are to fail on a patched release, each with its reason: it asserts the bug.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from packaging.specifiers import SpecifierSet

from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Distribution, Pair, Release, distribution
from airflow_auth_patches.series.tree import write_files
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt
from airflow_auth_patches.util.progress import Progress, Silent
from airflow_auth_patches.verification.unit_tests import BRIEF, UNSET, outcome_of, tally

#: What upstream's tests import beside the extras of every environment.
PACKAGES = ("authlib", "joserfc")
#: Files that cannot be collected from the sdist.
IGNORED = {
    "tests/unit/fab/auth_manager/api/auth/backend/test_kerberos_auth.py": "it needs Kerberos",
    "tests/unit/fab/plugins/test_plugin.py": "it has no test, and imports core's, which are not released",
}
#: How pytest ends when it has run all: none failed, some did (or could not be collected), there was none.
WHOLE = (0, 1, 5)
#: The worst of several outcomes of one test counts: its call and its teardown may each have one.
WORST = ("error", "failed", "skipped", "passed")


@dataclass(frozen=True)
class Listed:
    """
    A test that is to fail on a patched release.

    :param test: its id, as in ``tests/unit/fab/test_x.py::TestX::test_y``; without a parameter, all of them.
    :param distribution: what it is a test of.
    :param versions: the versions on which it fails when patched.
    :param reason: why that is as it should be.
    """

    test: str
    distribution: Distribution
    versions: SpecifierSet
    reason: str

    def serves(self, release: Release) -> bool:
        """Tell whether it speaks of that release."""
        return release.distribution is self.distribution and release.version in self.versions

    def covers(self, test: str) -> bool:
        """Tell whether it speaks of that test."""
        return self.test in (test, test.partition("[")[0])


@dataclass(frozen=True)
class Comparison:
    """
    What upstream's tests say of a stock and a patched environment.

    :param stock: outcomes by test id, as :func:`.unit_tests.run_tests` words them.
    :param patched: the same.
    :param broken: tests that pass on stock and do not on patched, and are not listed.
    :param listed: tests that do the same and are, with their reason.
    :param unsteady: tests that did the same in one of two whole runs, and in the other did not.
    :param cured: tests that fail on stock and pass on patched.
    :param wrong: what else is not as it must be, a line each.
    """

    stock: Mapping[str, str]
    patched: Mapping[str, str]
    broken: tuple[str, ...] = ()
    listed: Mapping[str, str] = field(default_factory=dict)
    unsteady: tuple[str, ...] = ()
    cured: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing that passes on stock fails on patched, and the run shows it."""
        return not self.broken and not self.wrong


def load(folder: Path) -> tuple[Listed, ...]:
    """
    Read ``upstream-tests.toml``.

    :param folder: the folder of the series, ``patches/``.
    :raises Problem: when the file is missing or broken.
    """
    path = folder / "upstream-tests.toml"
    with toml.opened(path, "Correct it: see docs/series.md.") as raw:
        entries = []
        for entry in raw.get("test", ()):
            name, _, versions = entry["releases"].partition(" ")
            if not versions or not entry["reason"].strip():
                raise ValueError(f"{entry['id']} needs a distribution, versions and a reason")
            entries.append(
                Listed(entry["id"], distribution(name), SpecifierSet(versions), entry["reason"].strip())
            )
    return tuple(entries)


def unpack(root: Path, release: Release, progress: Progress | None = None) -> Path:
    """
    Lay the tests of a release's sdist below ``build/``, afresh.

    :param root: the checkout of this project.
    :return: the folder that holds ``tests/``.
    :raises Problem: when the sdist cannot be fetched, or has no tests.
    """
    prefix = f"{release.distribution.root}/"
    files = {
        path.removeprefix(prefix): content
        for path, content in sources(release, progress).items()
        if path.startswith(f"{prefix}tests/")
    }
    if not files:
        raise Problem(f"The sdist of {release} has no tests.", "", Exit.USAGE)
    folder = root / "build" / "upstream" / f"{release.distribution.folder}-{release.version}"
    shutil.rmtree(folder, ignore_errors=True)
    write_files(folder, files)
    return folder


def packages(
    root: Path, pair: Pair, python: str, environment: Environment, progress: Progress | None = None
) -> Path:
    """
    Return the folder with the packages that only upstream's tests need, making it if it is not there.

    It goes on ``PYTHONPATH``, so that the environments of the unit tests serve here too, as they are.

    :param environment: one of the pair and Python.
    :raises Problem: when they cannot be installed; the folder is then gone.
    """
    folder = root / "build" / "upstream" / f"packages-{pair.name}-py{python}"
    spec = "\n".join([str(pair.exclude_newer), *PACKAGES])
    marker = folder / ".ready"
    if marker.exists() and marker.read_text() == spec:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    words: list[str | Path] = ["--target", folder, "--no-deps"]
    words += ["--exclude-newer", f"{pair.exclude_newer}T00:00:00Z", *PACKAGES]
    try:
        with (progress or Silent()).task("installing what upstream's tests need"):
            environments.install(environment, words)
        marker.write_text(spec)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def run(
    folder: Path,
    environment: Environment,
    arguments: Sequence[str | Path] = (),
    only: Sequence[str] = (),
    *,
    variables: Mapping[str, str] | None = None,
    timeout: float = 3600,
) -> dict[str, str]:
    """
    Run the tests below a folder.

    :param folder: the folder that holds ``tests/``.
    :param arguments: arguments of pytest.
    :param only: ids of tests, or nothing for all.
    :param variables: environment variables of the run.
    :return: ``{test id: outcome}``; a file that cannot be collected is an ``error`` under its path.
    :raises Problem: when pytest did not run to its end, or was asked for what is not there.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-", ignore_cleanup_errors=True) as scratch:
        report = Path(scratch) / "report.xml"
        words: list[str | Path] = [environment.python, "-m", "pytest", "-q", BRIEF, *arguments]
        words += [f"--rootdir={folder}", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        words += ["--continue-on-collection-errors", *(only or ["tests"])]
        # What pytest cannot remove, as it is ended, goes with this folder.
        given = {**UNSET, "TMPDIR": scratch, **(variables or {})}
        done = attempt(words, cwd=folder, env=given, timeout=timeout)
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        if not report.exists():
            raise Problem(f"pytest gave no report of {folder}:\n{tail}", "", Exit.FAILED)
        if done.returncode not in WHOLE:
            said = f"pytest did not run all tests of {folder}, and ended with {done.returncode}"
            raise Problem(f"{said}:\n{tail}", "", Exit.FAILED)
        outcomes: dict[str, str] = {}
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            test, outcome = _id(case), outcome_of(case)
            outcomes[test] = min(outcomes.get(test, outcome), outcome, key=rank)
    return outcomes


def run_sdist(
    root: Path,
    folder: Path,
    extra: Path,
    environment: Environment,
    expression: str | None = None,
) -> dict[str, str]:
    """
    Run the provider's tests in an environment of Airflow, with an ``AIRFLOW_HOME`` of their own.

    :param root: the checkout of this project.
    :param folder: what :func:`unpack` gave.
    :param extra: what :func:`packages` gave.
    :param expression: pytest's ``-k``; all tests when not given.
    :return: see :func:`run`.
    """
    standin = root / "tests/standin"
    arguments: list[str | Path] = ["-c", standin / "pytest.ini"]
    arguments += ["-p", "tests_common.pytest_plugin", "-p", "tests_common.upstream_plugin"]
    arguments += [f"--ignore={path}" for path in IGNORED]
    arguments += ["-k", expression] if expression else []
    variables = {
        "PYTHONPATH": os.pathsep.join(map(str, (standin, folder / "tests", extra))),
        "TESTS_COMMON_AUTH_MANAGER": "simple",  # upstream's default: FAB's tests choose it themselves
    }
    return run(folder, environment, arguments, variables=variables)


def _id(case: ElementTree.Element) -> str:
    file, where = case.get("file") or "", case.get("classname") or ""
    if not where:
        return file  # it could not be collected
    classes = where.removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
    return "::".join([file, *(classes.split(".") if classes else ()), case.get("name") or ""])


def rank(outcome: str) -> int:
    """Return the place of an outcome among all, the worst first."""
    return WORST.index(outcome.partition(":")[0])


def differing(stock: Mapping[str, str], patched: Mapping[str, str]) -> list[str]:
    """Return the tests that pass on stock and do not on patched: they fail, are skipped, or are not there."""
    return [test for test, outcome in stock.items() if outcome == "passed" and patched.get(test) != "passed"]


def unlisted(tests: Sequence[str], listed: Sequence[Listed]) -> list[str]:
    """Return those of some tests that no entry of the list speaks of."""
    return [test for test in tests if not any(entry.covers(test) for entry in listed)]


def compare(
    stock: Mapping[str, str],
    patched: Mapping[str, str],
    listed: Sequence[Listed] = (),
    again: tuple[Mapping[str, str], Mapping[str, str]] | None = None,
    *,
    whole: bool = True,
) -> Comparison:
    """
    Compare two runs of the same tests.

    :param listed: those of the list that speak of the release.
    :param again: a second whole run, on stock and on patched. A test is unsteady that passes on both there:
        not alone, since what one test leaves behind for another is what a patch may have broken.
    :param whole: whether all tests were run; only then can an entry of the list be outdated.
    """
    differ = differing(stock, patched)
    unexpected = unlisted(differ, listed)
    unsteady = []
    if again is not None:
        unsteady = [test for test in unexpected if again[0].get(test) == again[1].get(test) == "passed"]
        unsteady += [test for test in unlisted(differing(*again), listed) if test not in differ]
    reasons = {test: entry.reason for test in differ for entry in listed if entry.covers(test)}
    wrong = []
    counts = tally(stock)
    passed, ran = counts.get("passed", 0), sum(counts.values()) - counts.get("skipped", 0)
    if not ran:
        wrong.append("No test ran on stock.")
    elif passed * 2 <= ran:
        wrong.append(f"Of {ran} tests only {passed} passed on stock: that shows too little.")
    if whole:
        wrong += [
            f"{entry.test} is listed and does not differ: take it out of the list."
            for entry in listed
            if not any(entry.covers(test) for test in reasons)
        ]
    return Comparison(
        stock,
        patched,
        tuple(test for test in unexpected if test not in unsteady),
        reasons,
        tuple(unsteady),
        tuple(differing(patched, stock)),
        tuple(wrong),
    )
