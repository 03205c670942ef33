"""`lint-upstream` finds what upstream would refuse, with real ruff, mypy and prek."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app, lint
from airflow_auth_patches.contribute import lint_checkout, lint_tools, lint_upstream
from airflow_auth_patches.contribute.lint_tools import Finding
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import CORE, FAB
from airflow_auth_patches.series import series, tree
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Exit, Problem

MODULE = "airflow-core/src/airflow/module.py"
TEST = "airflow-core/tests/unit"
NEWS = "airflow-core/newsfragments"
START = "# Licensed to the Apache Software Foundation (ASF) under one\n\nfrom __future__ import annotations\n"
#: A module as released, which ruff and mypy would complain of, too.
STOCK = f"""{START}
import logging
import time

log = logging.getLogger(__name__)


def old(value) -> int:
    assert value
    return "one"


def maybe() -> int | None:
    time.sleep(1)
    return 1


def first() -> int | None:
    return maybe()
"""


@pytest.fixture
def findings(tmp_path, pins, monkeypatch) -> Callable[..., list[Finding]]:
    """Return a function that makes patches of a release with one module, and lints the patched files."""
    release = pins.release("apache-airflow-core==3.3.2")
    monkeypatch.setattr(lint_upstream, "sources", lambda *_: {MODULE: STOCK.encode()})

    def make(*versions: Mapping[str, str], types: bool = False) -> list[Finding]:
        work = tree.Tree(tmp_path / "tree", release)
        tree.write_files(work.folder, {MODULE: STOCK.encode()})
        work.git("init", "--quiet", "--initial-branch=main")
        work.commit("As released\n")
        patches = []
        for number, files in enumerate(versions, 1):
            tree.write_files(work.folder, {path: text.encode() for path, text in files.items()})
            work.commit(f"Edit\n\nApplies-To: {CORE.name} ==3.3.2\n")
            file = tmp_path / f"edit-{number}.patch"
            file.write_bytes(tree.format_commit(work, "HEAD", {}))
            patches.append(series.read_patch(file, CORE))
        python = Path(sys.executable) if types else None
        return list(lint_upstream.edited(Series(tmp_path, tuple(patches), {}), release, python))

    return make


def line_of(finding: Finding) -> str:
    return finding.path.read_text().splitlines()[finding.line - 1]


@pytest.mark.parametrize(
    ("code", "rule", "line"),
    [
        ("def new(value):\n    assert value\n", "S101", "+    assert value"),
        ('def new(value):\n    log.info(f"{value}")\n', "G004", '+    log.info(f"{value}")'),
        ("def new():\n    raise Exception\n", "TRY002", "+    raise Exception"),
        ("def  new():\n    pass\n", "format", "+def  new():"),
        ("def new(:\n    pass\n", "invalid-syntax", "+def new(:"),
    ],
)
def test_reports_what_a_patch_adds_at_the_line_of_the_patch(findings, code, rule, line):
    found = findings({MODULE: f"{STOCK}\n\n{code}"})
    assert (rule, line) in {(each.rule, line_of(each)) for each in found}
    assert all(f"{MODULE}:" in each.what and "of apache-airflow-core==3.3.2" in each.what for each in found)


def test_reports_what_a_patch_leaves_behind_at_the_head_of_the_diff(findings):
    (finding,) = findings({MODULE: STOCK.replace("    time.sleep(1)\n", "")})
    assert (finding.rule, line_of(finding)) == ("F401", f"+++ b/{MODULE}")


def test_reports_a_line_in_the_last_patch_that_adds_it(findings):
    first = f"{STOCK}\n\ndef new(value):\n    return value\n"
    second = first.replace("    return value\n", "    assert value\n    return value\n")
    (finding,) = findings({MODULE: first}, {MODULE: second})
    assert (finding.path.name, line_of(finding)) == ("edit-2.patch", "+    assert value")


def test_checks_a_file_that_a_patch_adds_as_a_whole(findings):
    found = findings({"airflow-core/src/airflow/added.py": "import os\n"})
    assert {each.rule for each in found} == {"F401", "I002", "licence"}


def test_accepts_clean_edits_and_the_findings_of_stock_files(findings):
    assert findings({MODULE: f"# moved\n{STOCK}\n\nX = 1\n"}) == []


def test_reports_only_types_that_a_patch_breaks_also_in_lines_of_the_release(findings):
    edit = STOCK.replace("def first() -> int | None:", "def first() -> int:")
    (finding,) = findings({MODULE: edit}, types=True)
    assert finding.rule == "mypy return-value"
    assert f"{MODULE}:{STOCK.count(chr(10))} of " in finding.what


@pytest.fixture
def ours(this_project, tmp_path) -> Callable[[Mapping[str, str]], list[Finding]]:
    """Return a function that writes added files into a project of its own, and lints them."""
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches/news.toml").write_text('slug = "1.bugfix.2.rst"\n')
    (tmp_path / "patches/upstream-lint.toml").touch()

    def check(files: Mapping[str, str]) -> list[Finding]:
        tree.write_files(tmp_path, {path: text.encode() for path, text in files.items()})
        series = Series(tmp_path / "patches", (), {})
        return list(lint_upstream.added(dataclasses.replace(this_project, root=tmp_path, series=series)))

    return check


def test_reports_findings_in_added_files(tmp_path, ours):
    tests = {
        "PT011": "import pytest\n\nwith pytest.raises(OSError):\n    open('x')\n",
        "TID251": "from airflow.utils.timezone import utcnow\n\nNOW = utcnow()\n",
        "I001": "from unit import x\nimport os\n\nprint(x, os)\n",
        "format": "".join(f"X{number} = 1\n" for number in range(20)) + "X  = 1\n",
        "mypy return-value": 'def number() -> int:\n    return "one"\n',
        "clean": "X = 1\n",
    }
    files = {f"{TEST}/test_{number}.py": f"{START}\n{text}" for number, text in enumerate(tests.values())}
    news = {f"{NEWS}/1.bugfix.2.rst": "One.\nTwo.\n", f"{NEWS}/1.bugfix.rst": "One.\n"}
    found = {
        (each.path.relative_to(tmp_path).as_posix(), each.rule): each for each in ours({**files, **news})
    }
    wanted = {*zip(files, tests, strict=True), *((path, "news") for path in news)}
    assert wanted - found.keys() == {(f"{TEST}/test_5.py", "clean")}
    assert not any(path == f"{TEST}/test_5.py" for path, _ in found)
    assert line_of(found[f"{TEST}/test_3.py", "format"]) == "X  = 1"


@pytest.mark.parametrize("name", ["ruff", "mypy", "prek"])
def test_names_a_program_that_is_missing(this_project, tmp_path, monkeypatch, name):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = {
        "ruff": lambda: lint_tools.ruff(tmp_path, ["x.py"]),
        "mypy": lambda: lint_tools.mypy(tmp_path, ["x.py"]),
        "prek": lambda: lint_checkout.run_hooks(this_project, tmp_path),
    }
    with pytest.raises(Problem, match=rf"^{name} was not found\. Install .*: ") as raised:
        checks[name]()
    assert raised.value.exit_code == Exit.USAGE


def test_the_command_reports_accepts_and_finds_idle_entries(tmp_path, ours, pins, monkeypatch):
    path = f"{NEWS}/2.bugfix.rst"
    ours({path: "One.\n"})
    none = dataclasses.replace(pins, releases=(), pairs=())
    project = Project(tmp_path, Series(tmp_path / "patches", (), {}), none)
    monkeypatch.setattr(lint, "checkout", lambda: project)
    done = CliRunner().invoke(app, ["lint-upstream"])
    assert done.exit_code == Exit.FAULT
    assert f"{path}:1: news: It belongs to no patch" in done.stdout
    entry = '[[finding]]\nfile = "{}"\nrule = "news"\nsays = "no patch"\nwhy = "Because."\n'
    listed = tmp_path / "patches/upstream-lint.toml"
    listed.write_text(entry.format(path))
    done = CliRunner().invoke(app, ["lint-upstream", "--json"])
    assert done.exit_code == Exit.OK
    (row,) = json.loads(done.stdout)["findings"]
    assert (row["path"], row["line"], row["rule"], row["excused"]) == (path, 1, "news", "Because.")
    listed.write_text(entry.format("other.rst"))
    done = CliRunner().invoke(app, ["lint-upstream", "--all"])
    assert done.exit_code == Exit.FAULT
    assert "other.rst no longer has the finding news: no patch." in done.stdout
    done = CliRunner().invoke(app, ["lint-upstream", "--at", "main"])
    assert isinstance(done.exception, Problem)


def test_the_series_has_no_findings_in_any_form(project, this_project):
    linted = lint_upstream.lint_upstream(this_project, every=True)
    assert [str(finding) for finding in linted.findings] == []
    for patch in project.patches:
        assert any(patch.serves(release) for release in linted.releases), patch.name


def test_checks_the_newest_release_of_each_line_by_default(this_project, pins):
    newest = {
        (r.distribution, r.version.release[: 2 if r.distribution is CORE else 0]): r for r in pins.releases
    }
    assert set(lint_upstream.chosen(this_project, every=False)) == set(newest.values())
    assert {release.distribution for release in newest.values()} == {CORE, FAB}


SLUG = "revoked-token-leeway"
HOOKS = """minimum_prek_version: '0.3.4'
repos:
  - repo: {elsewhere}
    rev: v1
    hooks:
      - id: from-git
  - repo: local
    hooks:
      - {{id: passes, name: passes, language: pygrep, entry: no such text}}
      - {{id: python-hook, name: python, language: python, entry: "python -c 'import sys'"}}
      - {{id: fails, name: fails, language: pygrep, entry: "def test_", files: tests/}}
      - {{id: fails-before, name: old, language: pygrep, entry: "^from __future__", files: src/}}
      - {{id: of-other-files, name: other, language: node, entry: x, files: web/}}
      - {{id: in-docker, name: docker, language: docker_image, entry: x}}
      - {{id: by-breeze, name: breeze, language: python, entry: ./check.py}}
"""


@pytest.fixture
def airflow(tmp_path, project, pins, monkeypatch) -> Path:
    """Return a small checkout of Airflow with hooks of its own."""
    monkeypatch.setenv("PREK_HOME", str(tmp_path / "prek"))
    release = pins.release("apache-airflow-core==3.3.2")
    (patch,) = project.select(release, [SLUG])
    stock = fetching.sources(release)
    paths = [*patch.edits, f"{CORE.root}/src/{CORE.package}/__init__.py"]
    files = {path: stock[path] for path in paths}
    files[".pre-commit-config.yaml"] = HOOKS.format(elsewhere=tmp_path / "missing").encode()
    files["check.py"] = b"initialize_breeze_prek(__name__, __file__)\n"
    work = tree.Tree(tmp_path / "airflow", release)
    tree.write_files(work.folder, files)
    work.git("init", "--quiet", "--initial-branch=main")
    work.commit("Airflow\n")
    return work.folder


def state(folder: Path) -> str:
    command = "git status --porcelain && git for-each-ref && git worktree list && git log --all --format=%H"
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_runs_the_hooks_of_a_checkout_and_leaves_it_unchanged(airflow):
    before = state(airflow)
    done = CliRunner().invoke(app, ["lint-upstream", "--checkout", str(airflow), "--patch", SLUG])
    assert done.exit_code == Exit.FAULT, done.output
    for line in (
        "not run, from a git repository: from-git",
        "not run, needs Docker: in-docker",
        "not run, needs Breeze: by-breeze",
        "fails without the patches too: fails-before",
        "apache-airflow-core==3.3.2: failed: fails",
    ):
        assert line in done.stdout.splitlines()
    assert "of-other-files" not in done.stdout
    assert state(airflow) == before


def test_runs_every_hook_on_request_and_reports_why_it_cannot(this_project, airflow):
    with pytest.raises(Problem, match=r"prek failed:(?s:.)*missing"):
        lint_checkout.run_hooks(this_project, airflow, names=[SLUG], every=True)
