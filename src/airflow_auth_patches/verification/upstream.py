"""
Run upstream's tests on a stock and a patched release: a test that passes on stock must pass when patched.

The sdist of the FAB provider contains its tests. They are unpacked below ``build/`` and not committed. They
run with the pytest plugin stub in ``plugin_stub``, on stock and patched. ``patches/upstream-tests.toml``
lists the tests that must fail on a patched release because they assert the bug, each with a reason.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.specifiers import SpecifierSet

from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Distribution, Pair, Release, distribution
from airflow_auth_patches.series.tree import write_files
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import UsageProblem
from airflow_auth_patches.util.progress import SILENT, Progress
from airflow_auth_patches.verification import run_pytest

#: Packages that upstream's tests need in addition to the extras of every environment.
PACKAGES = ("authlib", "joserfc")
#: Test files that cannot run from the sdist, with the reason.
IGNORED = {
    "tests/unit/fab/auth_manager/api/auth/backend/test_kerberos_auth.py": "needs Kerberos",
    "tests/unit/fab/plugins/test_plugin.py": "has no tests, and imports unreleased tests of core",
}


@dataclass(frozen=True)
class Listed:
    """
    A test that must fail on a patched release.

    :param test: the id, as in ``tests/unit/fab/test_x.py::TestX::test_y``; without a parameter for all.
    :param versions: the versions on which it fails when patched.
    """

    test: str
    distribution: Distribution
    versions: SpecifierSet
    reason: str

    def serves(self, release: Release) -> bool:
        """Check whether the entry is for that release."""
        return release.distribution is self.distribution and release.version in self.versions

    def covers(self, test: str) -> bool:
        """Check whether the entry is for that test."""
        return self.test in (test, test.partition("[")[0])


@dataclass(frozen=True)
class Comparison:
    """
    The comparison of upstream's tests on a stock and a patched environment.

    :param stock: outcomes on stock by test id, in the format of :func:`.run_pytest.run`.
    :param patched: outcomes on the patched release, in the same format.
    :param broken: tests that pass only on stock and are not listed.
    :param listed: tests that pass only on stock and are listed, with the reason.
    :param unsteady: flaky tests: they passed only on stock in one of two complete runs, but not in the other.
    :param cured: tests that pass only on the patched release.
    :param wrong: other problems, one line each.
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
        """Whether every test that passes on stock also passes when patched, and the run is conclusive."""
        return not self.broken and not self.wrong


def load(folder: Path) -> tuple[Listed, ...]:
    """
    Return the entries of ``upstream-tests.toml``.

    :raises Problem: when the file is missing or invalid.
    """
    path = folder / "upstream-tests.toml"
    with toml.opened(path, "Correct it. docs/series.md describes its format.") as raw:
        entries = []
        for entry in raw.get("test", ()):
            name, _, versions = entry["releases"].partition(" ")
            if not versions or not entry["reason"].strip():
                raise ValueError(f"{entry['id']} needs a distribution, versions and a reason")
            entries.append(
                Listed(
                    entry["id"],
                    distribution(name),
                    SpecifierSet(versions, prereleases=True),
                    entry["reason"].strip(),
                )
            )
    return tuple(entries)


def unpack(root: Path, release: Release, progress: Progress = SILENT) -> Path:
    """
    Unpack the tests of a release's sdist below ``build/``, replacing the folder.

    :return: the folder that contains ``tests/``.
    :raises Problem: when the sdist cannot be fetched, or contains no tests.
    """
    prefix = f"{release.distribution.root}/"
    files = {
        path.removeprefix(prefix): content
        for path, content in sources(release, progress).items()
        if path.startswith(f"{prefix}tests/")
    }
    if not files:
        raise UsageProblem(f"The sdist of {release} has no tests.", "Choose another release.")
    folder = root / "build" / "upstream" / f"{release.distribution.folder}-{release.version}"
    shutil.rmtree(folder, ignore_errors=True)
    write_files(folder, files)
    return folder


def packages_folder(root: Path, pair: Pair, python: str) -> Path:
    """Return the folder of :func:`packages`."""
    return root / "build" / "upstream" / f"packages-{pair.name}-py{python}"


def packages(
    root: Path, pair: Pair, python: str, environment: Environment, progress: Progress = SILENT
) -> Path:
    """
    Return the folder with the packages that only upstream's tests need, and create it if necessary.

    The folder goes on ``PYTHONPATH``, so that the environments of the unit tests can be used unchanged.

    :param environment: an environment of the pair and Python version.
    :raises Problem: when the packages cannot be installed; the folder is then removed.
    """
    folder = packages_folder(root, pair, python)
    spec = "\n".join([str(pair.exclude_newer), *PACKAGES])
    marker = folder / ".ready"
    if marker.exists() and marker.read_text() == spec:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    words: list[str | Path] = ["--target", folder, "--no-deps"]
    words += ["--exclude-newer", f"{pair.exclude_newer}T00:00:00Z", *PACKAGES]
    try:
        with progress.task("installing the packages that upstream's tests need"):
            environments.install(environment, words)
        marker.write_text(spec)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def run_sdist(
    root: Path, folder: Path, extra: Path, environment: Environment, expression: str | None = None
) -> dict[str, str]:
    """
    Run the provider's tests in an environment of Airflow, with a separate ``AIRFLOW_HOME``.

    :param folder: the folder that :func:`unpack` returned.
    :param extra: the folder that :func:`packages` returned.
    :param expression: pytest's ``-k``; runs all tests if not given.
    :return: see :func:`.run_pytest.run`.
    """
    arguments, _ = run_pytest.with_plugin_stub(root, "upstream_plugin")
    arguments += [f"--ignore={path}" for path in IGNORED]
    arguments += ["-k", expression] if expression else []
    variables = {
        "PYTHONPATH": os.pathsep.join(map(str, (root / run_pytest.PLUGIN_STUB, folder / "tests", extra))),
        "TESTS_COMMON_AUTH_MANAGER": "simple",  # upstream's default; FAB's tests set it themselves
    }
    return run_pytest.run(folder, environment, [*arguments, "tests"], variables=variables)


def differing(stock: Mapping[str, str], patched: Mapping[str, str]) -> list[str]:
    """Return the tests that pass on stock and fail, are skipped or do not exist on the patched release."""
    return [test for test, outcome in stock.items() if outcome == "passed" and patched.get(test) != "passed"]


def unlisted(tests: Sequence[str], listed: Sequence[Listed]) -> list[str]:
    """Return the tests that no entry of the list covers."""
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

    :param listed: the entries of the list for the release.
    :param again: a second complete run, on stock and on patched. A test that passes on both there is flaky.
        All tests run again, because a patch may have broken the effect of one test on another.
    :param whole: whether all tests ran; only then can an entry of the list be outdated.
    """
    differ = differing(stock, patched)
    unexpected = unlisted(differ, listed)
    unsteady = []
    if again is not None:
        unsteady = [test for test in unexpected if again[0].get(test) == again[1].get(test) == "passed"]
        unsteady += [test for test in unlisted(differing(*again), listed) if test not in differ]
    reasons = {test: entry.reason for test in differ for entry in listed if entry.covers(test)}
    wrong = []
    counts = run_pytest.tally(stock)
    passed, ran = counts.get("passed", 0), sum(counts.values()) - counts.get("skipped", 0)
    if not ran:
        wrong.append("No test ran on stock. Check the -k expression and the paths.")
    elif passed * 2 <= ran:
        wrong.append(
            f"Only {passed} of {ran} tests passed on stock. Correct the environment and run them again."
        )
    if whole:
        wrong += [
            f"{entry.test} is listed, but its outcomes do not differ. Remove it from the list."
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
