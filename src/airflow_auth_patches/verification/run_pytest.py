"""Run pytest in an environment of Airflow, and read the outcomes from its JUnit report."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt

#: Unset variables of the user that could select other tests or stop a run early.
UNSET = {"PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
#: No source code in tracebacks: to show it, pytest parses the file. On Python 3.11 this crashes if a garbage
#: collection runs a finalizer that parses code too (SystemError: AST constructor recursion depth mismatch).
BRIEF = "--tb=line"
#: Exit codes of a complete pytest run: no failures, some failures or collection errors, no tests.
WHOLE = (0, 1, 5)
#: Outcomes, worst first. A test can have several, for its call and its teardown.
WORST = ("error", "failed", "skipped", "passed")
#: The pytest plugin stub, below the checkout.
PLUGIN_STUB = "src/airflow_auth_patches/verification/plugin_stub"


def cases(
    folder: Path,
    environment: Environment,
    arguments: Sequence[str | Path],
    *,
    variables: Mapping[str, str] | None = None,
    timeout: float = 3600,
    whole: bool = True,
) -> list[tuple[str, str]]:
    """
    Run pytest, and return each test case of its report.

    :param folder: its working directory and root folder.
    :param arguments: its arguments.
    :param variables: environment variables of the run.
    :param whole: whether pytest must run all tests.
    :return: ``[(test id, outcome)]``; an outcome is ``passed``, ``skipped``, ``error: ...`` or
        ``failed: ...``. A test has several entries if its teardown fails too. A file that cannot be collected
        has an ``error`` under its path.
    :raises Problem: when pytest wrote no report, or did not run all tests.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-", ignore_cleanup_errors=True) as scratch:
        report = Path(scratch) / "report.xml"
        words: list[str | Path] = [environment.python, "-m", "pytest", "-q", BRIEF]
        words += [f"--rootdir={folder}", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        words += ["--continue-on-collection-errors", *arguments]
        # Files that pytest does not remove when it is killed are removed with this folder.
        given = {**UNSET, "TMPDIR": scratch, **(variables or {})}
        done = attempt(words, cwd=folder, env=given, timeout=timeout)
        wrong = ""
        if not report.exists():
            wrong = f"pytest wrote no report of {folder}"
        elif whole and done.returncode not in WHOLE:
            wrong = f"pytest did not run all tests of {folder} and exited with {done.returncode}"
        if wrong:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise Problem(
                f"{wrong}:\n{tail}", "Correct the error above and run the command again.", Exit.FAILED
            )
        return [(_id(case), _outcome(case)) for case in ElementTree.parse(report).getroot().iter("testcase")]


def run(
    folder: Path,
    environment: Environment,
    arguments: Sequence[str | Path],
    *,
    variables: Mapping[str, str] | None = None,
    timeout: float = 3600,
) -> dict[str, str]:
    """
    Run all tests, and return the first worst outcome of each: ``{test id: outcome}``.

    The arguments, outcomes and errors are those of :func:`cases`.
    """
    return worst(cases(folder, environment, arguments, variables=variables, timeout=timeout))


def worst(outcomes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first worst outcome for each name: ``{name: outcome}``."""
    found: dict[str, str] = {}
    for name, outcome in outcomes:
        found[name] = min(found.get(name, outcome), outcome, key=lambda o: WORST.index(o.partition(":")[0]))
    return found


def with_plugin_stub(root: Path, *plugins: str) -> tuple[list[str | Path], dict[str, str]]:
    """
    Return the arguments and the variables of a run with the pytest plugin stub.

    :param plugins: more plugins in the package of the stub.
    """
    folder = root / PLUGIN_STUB
    words = [word for name in ("pytest_plugin", *plugins) for word in ("-p", f"tests_common.{name}")]
    variables = {"PYTHONPATH": str(folder), "AUTH_PATCHES_DATABASES": str(root / "build" / "databases")}
    return ["-c", folder / "pytest.ini", *words], variables


def tally(outcomes: Mapping[str, str]) -> dict[str, int]:
    """Return the number of outcomes by their first word."""
    return dict(Counter(outcome.partition(":")[0] for outcome in outcomes.values()))


def _id(case: ElementTree.Element) -> str:
    file, where = case.get("file") or "", case.get("classname") or ""
    if not where:
        return file  # the file could not be collected
    classes = where.removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
    return "::".join([file, *(classes.split(".") if classes else ()), case.get("name") or ""])


def _outcome(case: ElementTree.Element) -> str:
    for tag in ("error", "failure", "skipped"):
        if (node := case.find(tag)) is not None:
            word = {"error": "error: ", "failure": "failed: ", "skipped": "skipped"}[tag]
            return word + _message(node) * (tag != "skipped")
    return "passed"


def _message(node: ElementTree.Element) -> str:
    """Return the first line of a failure. If a file could not be collected, return the line of its error."""
    message: str = ((node.get("message") or "").splitlines() or [""])[0]
    if message == "collection failure":
        errors = [line[1:].strip() for line in (node.text or "").splitlines() if line.startswith("E ")]
        return errors[-1] if errors else message
    return message
