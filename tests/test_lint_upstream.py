"""Each rule of `lint-upstream` finds what breaks it, with real ruff and mypy, and leaves what does not."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from packaging.version import Version

from airflow_auth_patches.contribute import lint_upstream as command
from airflow_auth_patches.contribute.hooks import added, files, registry, source, tests, tools
from airflow_auth_patches.contribute.hooks.added import Finding, Patched
from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import CORE, FAB, Distribution, Pins, Release
from airflow_auth_patches.series import series, tree
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util import processes
from airflow_auth_patches.util.errors import Exit, Problem

TOOL = Path(sys.executable).parent / "airflow-auth-patches"
MODULE = "airflow-core/src/airflow/module.py"
ROUTE = "providers/fab/src/airflow/providers/fab/module.py"
HEAD = "".join(f"# {line}\n" for line in ("Licensed to everybody", "under some licence."))
START = f"{HEAD}from __future__ import annotations\n"
#: A module as released, which ruff would complain of, too.
STOCK = f"""{START}
import logging
import time

log = logging.getLogger(__name__)


def old(value, session):
    assert value
    session.commit()
    return time.time()
"""
CONFIG = """core:
  description: ~
  options:
    size:
      description: |
        How many.
      version_added: 3.0.0
      type: integer
      example: ~
      default: "1"
api:
  description: ~
  options:
    pages:
      description: |
        How many.
      version_added: 3.0.0
      type: integer
      example: ~
      default: "1"
"""
OPTION = """    rows:
      description: |
        How many.
      version_added: 3.3.3
      type: integer
      example: ~
      default: "2"
"""
READ = 'def rows():\n    return conf.getint("api", "rows")\n'
METRICS = """metrics:
  - name: "old.metric"
    description: "Old"
    type: "counter"
    legacy_name: "-"
    name_variables: []
"""
METRIC = """
  - name: "new.metric"
    description: "New"
    type: "gauge"
    legacy_name: "-"
    name_variables: []
"""
COUNT = 'def count():\n    stats.gauge("new.metric", 1)\n'


@pytest.fixture
def patched(tmp_path, monkeypatch) -> Callable[..., Patched]:
    """Return what makes a release with a patch in it: a real sdist, and a real patch of its files."""
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path / "cache"))

    def make(
        before: Mapping[str, str],
        after: Mapping[str, str],
        *later: Mapping[str, str],
        dist: Distribution = CORE,
    ) -> Patched:
        release = sdist(tmp_path / "cache", dist, before)
        release_tree = tree.Tree(tmp_path / "tree", release)
        tree.write_files(release_tree.folder, {path: text.encode() for path, text in before.items()})
        release_tree.git("init", "--quiet", "--initial-branch=main")
        release_tree.commit("As released\n")
        patches = []
        for number, edits in enumerate((after, *later), 1):
            tree.write_files(release_tree.folder, {path: text.encode() for path, text in edits.items()})
            release_tree.commit(f"Edit\n\nApplies-To: {dist.name} ==3.3.2\n")
            file = tmp_path / "patches" / dist.folder / f"edit-{number}.patch"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tree.format_commit(release_tree, "HEAD", {}))
            patches.append(series.read_patch(file, dist))
        return added.look(tmp_path, Series(tmp_path / "patches", tuple(patches), {}), release)

    return make


def sdist(cache: Path, dist: Distribution, content: Mapping[str, str]) -> Release:
    """Make the sdist of a release with these files, and pin it."""
    version = Version("3.3.2")
    empty = Release(dist, version, datetime.date(2026, 11, 1), ("3.11",), {"wheel": "", "sdist": ""})
    archive = cache / empty.filename("sdist")
    cache.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for path, text in content.items():
            inside = path.removeprefix(f"{dist.root}/")
            if path.startswith("shared/"):
                inside = "src/airflow/_shared/" + path.partition("/airflow_shared/")[2]
            member = tarfile.TarInfo(f"{dist.stem}-{version}/{inside}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return dataclasses.replace(empty, hashes={"wheel": "", "sdist": fetching.sha256(archive)})


def rules(found: list[Finding]) -> list[str]:
    for finding in found:
        text = finding.path.read_text().splitlines()
        assert 1 <= finding.line <= max(len(text), 1)
        assert finding.what.endswith((".", "?", "!")), finding
        assert finding.remedy
    return [finding.rule for finding in found]


def test_ruff_tells_only_what_is_new(patched):
    told = list(tools.ruff_on_edits(patched({MODULE: STOCK}, {MODULE: "# moved\n" + STOCK + "\n\nX = 1\n"})))
    assert told == []


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("def new(value):\n    assert value\n", "S101"),
        ('def new(value):\n    log.info(f"{value}")\n', "G004"),
        ('def new(value):\n    log.info("%s" % value)\n', "G002"),
        ('def new(value):\n    log.info("{}".format(value))\n', "G001"),
        ("def new(value=[]):\n    return value\n", "B006"),
        ("def new():\n    raise Exception\n", "TRY002"),
        ('def new(value):\n    raise ValueError(f"{value}")\n', "EM102"),
        ("def new():\n    from starlette.exceptions import HTTPException\n", "TID251"),
        ("import json\n", "E402"),
        ("class New:\n    pass\n", "D101"),
        ("def  new():\n    pass\n", "format"),
        ("async def new():\n    time.sleep(1)\n", "ASYNC251"),
    ],
)
def test_ruff_finds_what_a_patch_adds_at_its_line_of_the_patch(patched, code, rule):
    made = patched({MODULE: STOCK}, {MODULE: f"{STOCK}\n\n{code}"})
    told = list(tools.ruff_on_edits(made))
    assert rule in rules(told)
    for finding in told:
        match = re.match(rf"{MODULE}:(\d+) of apache-airflow-core==3\.3\.2: ", finding.what)
        assert match
        line = made.files[MODULE].lines[int(match[1]) - 1]
        assert finding.path.read_text().splitlines()[finding.line - 1] == f"+{line}"


def test_ruff_finds_what_a_patch_leaves_behind(patched):
    """The import is the release's own line, and what used it is gone: the head of the file says so."""
    (finding,) = tools.ruff_on_edits(patched({MODULE: STOCK}, {MODULE: STOCK.replace("time.time()", "1")}))
    assert finding.rule == "F401"
    assert finding.path.read_text().splitlines()[finding.line - 1] == f"+++ b/{MODULE}"


def test_ruff_counts_findings_that_look_alike(patched):
    made = patched({MODULE: STOCK}, {MODULE: f"{STOCK}\n\ndef new(value):\n    assert value\n"})
    assert rules(list(tools.ruff_on_edits(made))) == ["S101"]


def test_a_line_is_of_the_last_patch_that_adds_it(patched):
    first = f"{STOCK}\n\ndef new(value):\n    return value\n"
    second = first.replace("    return value\n", "    assert value\n    return value\n")
    (finding,) = tools.ruff_on_edits(patched({MODULE: STOCK}, {MODULE: first}, {MODULE: second}))
    assert finding.path.name == "edit-2.patch"
    assert finding.path.read_text().splitlines()[finding.line - 1] == "+    assert value"


def test_what_does_not_parse_is_a_finding(patched, pins, tmp_path, ours):
    made = patched({MODULE: STOCK}, {MODULE: f"{STOCK}\n\ndef new(:\n    pass\n"})
    assert "invalid-syntax" in rules(list(tools.ruff_on_edits(made)))
    assert list(source.check(made.files[MODULE])) == []
    assert list(registry.check(made, pins)) == []
    assert list(tests.check(tmp_path, MODULE, ours("def new(:\n    pass\n"))) == []
    assert "invalid-syntax" in rules(list(tools.ruff_on_added(tmp_path)))


def test_nothing_is_added(tmp_path):
    (tmp_path / "other.py").write_text("import os\n")
    assert list(tools.ruff_on_added(tmp_path)) == []
    assert list(tools.mypy_on_added(tmp_path)) == []


def test_a_clean_addition_is_clean(patched):
    code = 'async def new(*, session) -> None:\n    log.info("%s", session)\n'
    made = patched({MODULE: STOCK}, {MODULE: f"{STOCK}\n\n{code}"})
    assert list(tools.ruff_on_edits(made)) == []
    assert list(source.check(made.files[MODULE])) == []


@pytest.fixture
def ours(tmp_path) -> Callable[[str], Path]:
    """Return what writes a test file of core into a project of its own."""

    def write(text: str) -> Path:
        file = tmp_path / "airflow-core/tests/unit/test_ours.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("import pytest\n\n\ndef test_it():\n    with pytest.raises(OSError):\n        open('x')\n", "PT011"),
        ("import unittest\n\n\nclass TestIt(unittest.TestCase):\n    pass\n", "TID251"),
        ("from airflow.utils.timezone import utcnow\n\nNOW = utcnow()\n", "TID251"),
        ("from unit import x\nimport os\n\nprint(x, os)\n", "I001"),
        ("X  = 1\n", "format"),
    ],
)
def test_ruff_on_an_added_file(tmp_path, ours, code, rule):
    ours(f"{START}\n{code}")
    told = rules(list(tools.ruff_on_added(tmp_path)))
    assert rule in told
    ours(f"{START}\nX = 1\n")
    assert list(tools.ruff_on_added(tmp_path)) == []


def test_the_place_of_what_ruff_formats_otherwise(tmp_path, ours):
    file = ours(f"{START}\n" + "".join(f"X{number} = 1\n" for number in range(20)) + "X  = 1\n")
    (finding,) = tools.ruff_on_added(tmp_path)
    assert file.read_text().splitlines()[finding.line - 1] == "X  = 1"


def test_the_future_import_is_wanted(tmp_path, ours):
    ours("X = 1\n")
    assert rules(list(tools.ruff_on_added(tmp_path))) == ["I002"]


def test_mypy_on_an_added_file(tmp_path, ours):
    file = ours(f"{START}\nfrom airflow import settings\n\nX: int = settings.Session\n")
    assert list(tools.mypy_on_added(tmp_path)) == []
    file.write_text(f'{START}\n\ndef number() -> int:\n    return "one"\n')
    (finding,) = tools.mypy_on_added(tmp_path)
    assert finding.rule == "mypy return-value"
    assert (finding.path, finding.line) == (file, len(file.read_text().splitlines()))
    file.write_text("1 = 2\n")
    assert rules(list(tools.mypy_on_added(tmp_path))) == ["mypy syntax"]


def test_mypy_reads_patched_files_as_a_whole(patched):
    stock = (
        STOCK
        + """

def known() -> int:
    return "one"


def maybe() -> int | None:
    return 1


def first() -> int | None:
    return maybe()
"""
    )
    made = patched(
        {MODULE: stock}, {MODULE: stock.replace("def first() -> int | None:", "def first() -> int:")}
    )
    (finding,) = tools.mypy_on_edits(made, Path(sys.executable))
    assert finding.rule == "mypy return-value"
    # The line is the release's, so the finding is at the line of the patch that names the file.
    assert finding.path.read_text().splitlines()[finding.line - 1] == f"+++ b/{MODULE}"
    assert f"{MODULE}:{stock.count(chr(10))} of " in finding.what


def test_mypy_finds_what_a_patch_adds(patched):
    made = patched({MODULE: STOCK}, {MODULE: f'{STOCK}\n\ndef new() -> int:\n    return "one"\n'})
    (finding,) = tools.mypy_on_edits(made, Path(sys.executable))
    assert finding.path.read_text().splitlines()[finding.line - 1] == '+    return "one"'


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("def new(session):\n    return session\n", "session"),
        ("def new(*, session=NEW_SESSION):\n    return session\n", "session"),
        ("def new(*, session):\n    session.commit()\n", "session-commit"),
        ("def new(*, session):\n    def step():\n        session.commit()\n\n    step()\n", "session-commit"),
        ("def new(then):\n    return time.time() - then\n", "monotonic"),
        ('def new():\n    raise AirflowException("no")\n', "airflow-exception"),
        ("def new():\n    import json\n\n    return json\n", "local-import"),
        ("def new(master):\n    return master\n", "inclusive-language"),
    ],
)
def test_a_rule_of_production_code(patched, code, rule):
    made = patched({MODULE: STOCK}, {MODULE: f"{STOCK}\n\n{code}"})
    assert set(rules(list(source.check(made.files[MODULE])))) == {rule}


def test_a_decorator_that_a_patch_takes_away_is_missed(patched):
    """The line with the default is the release's own."""
    released = f"{STOCK}\n\n@provide_session\ndef old(*, session=NEW_SESSION):\n    return session\n"
    made = patched({MODULE: released}, {MODULE: released.replace("@provide_session\n", "")})
    (finding,) = source.check(made.files[MODULE])
    assert finding.rule == "session"
    assert "old has the default NEW_SESSION without @provide_session" in finding.what


def test_what_a_release_lacks_itself_is_not_told(patched):
    released = f"{STOCK}\n\ndef old(*, session=NEW_SESSION):\n    return session\n"
    made = patched({MODULE: released}, {MODULE: f"{released}\n\ndef new():\n    return 1\n"})
    assert list(source.check(made.files[MODULE])) == []


@pytest.mark.parametrize(
    "code",
    [
        "def new(*, session):\n    return session\n",
        "def new(session: SessionDep):\n    return session\n",
        '@event.listens_for(Session, "after_commit")\ndef new(session):\n    return session\n',
        "@provide_session\ndef new(*, session=NEW_SESSION):\n    return session\n",
        "def new():\n    with create_session() as session:\n        session.commit()\n",
        "def new(*, session):\n    def other(*, session):\n        return session\n\n    return other\n",
        "def new(then):\n    return time.monotonic() - then\n",
        'def new():\n    raise ValueError("no")\n',
        "def new():\n    # A cycle of imports.\n    import json\n\n    return json\n",
        "def new():\n    import json  # A cycle of imports.\n\n    return json\n",
        "def new():\n    return 'masterly, her-e and there'\n",
    ],
)
def test_what_no_rule_of_production_code_minds(patched, code):
    code = code.replace("her-e", "here")
    made = patched({MODULE: STOCK}, {MODULE: f"{STOCK}\n\n{code}"})
    assert list(source.check(made.files[MODULE])) == []


def test_who_commits_in_the_provider_is_left_alone(patched):
    made = patched(
        {ROUTE: STOCK}, {ROUTE: f"{STOCK}\n\ndef new(*, session):\n    session.commit()\n"}, dist=FAB
    )
    assert list(source.check(made.files[ROUTE])) == []


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("def test_it(caplog):\n    pass\n", "caplog"),
        ("X = mock.Mock()\n", "mock-spec"),
        ("X = MagicMock(return_value=1)\n", "mock-spec"),
        ("X = mock.AsyncMock()\n", "mock-spec"),
        ('X = mock.patch("a.b")\n', "mock-spec"),
        ('X = mock.patch.object(X, "b", return_value=1)\n', "mock-spec"),
        ('@patch("a.b")\ndef test_it(b):\n    pass\n', "mock-spec"),
        ("time.sleep(1)\n", "sleep"),
        ("async def test_it():\n    await asyncio.sleep(0.1)\n", "sleep"),
        ("sleep(0)\n", "sleep"),
        ('def test_it():\n    """See #12345."""\n', "issue-number"),
        ('def test_it():\n    """\n    See it.\n\n    As 62335 says.\n    """\n', "issue-number"),
        ('class TestIt:\n    """Of https://github.com/apache/airflow/issues/1."""\n', "issue-number"),
        ("from tests_common.test_utils.version_compat import AIRFLOW_V_3_1_PLUS\n", "version-flag"),
    ],
)
def test_a_rule_of_tests(tmp_path, ours, code, rule):
    told = list(tests.check(tmp_path, MODULE, ours(code)))
    assert rules(told) == [rule]
    if rule == "issue-number":
        text = told[0].path.read_text().splitlines()[told[0].line - 1]
        assert re.search(r"12345|62335|issues/1", text)


@pytest.mark.parametrize(
    "code",
    [
        "# caplog is not used\n",
        "X = mock.Mock(spec=Session)\n",
        "X = mock.MagicMock(Session)\n",
        "X = mock.create_autospec(Session)\n",
        'X = mock.patch("a.b", autospec=True)\n',
        'X = mock.patch("a.b", new=1)\n',
        'X = mock.patch("a.b", other)\n',
        'X = mock.patch.object(X, "b", wraps=X.b)\n',
        'X = mock.patch.object(X, "b", other)\n',
        'X = mock.patch.dict("a.b", {})\n',
        'client.patch("/users", json={})\n',
        "asyncio.sleep(0)\n",
        'def test_it():\n    """Of 300 tokens 12,345 in 10000.5 s."""\n',
        "X = 12345\n",
    ],
)
def test_what_no_rule_of_tests_minds(tmp_path, ours, code):
    assert list(tests.check(tmp_path, MODULE, ours(code))) == []


def test_version_flags_are_for_providers(tmp_path, ours):
    file = ours("from tests_common.test_utils.version_compat import AIRFLOW_V_3_1_PLUS\n")
    assert list(tests.check(tmp_path, ROUTE, file)) == []


@pytest.fixture
def registered(patched, pins) -> Callable[..., list[Finding]]:
    """Return what tells the findings of a patch that adds to the registries, and code that uses them."""

    def tell(config: str = CONFIG, metrics: str = METRICS, code: str = "") -> list[Finding]:
        paths = {registry.CONFIG: CONFIG, registry.METRICS: METRICS, MODULE: STOCK}
        edited = {registry.CONFIG: config, registry.METRICS: metrics, MODULE: STOCK + "\n\n" + code}
        return list(registry.check(patched(paths, edited), pins))

    return tell


def test_registries_in_form(registered):
    assert registered(CONFIG + OPTION, METRICS + METRIC, READ + COUNT) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("      description: |\n        How many.\n", "", "rows has no description"),
        ("description: |\n        How many.", "description: How many.", "description of rows is How many"),
        ("      version_added: 3.3.3\n", "", "rows has no version_added"),
        ("3.3.3", "3.3.2", "is 3.3.2: the next of that line is 3.3.3"),
        ("3.3.3", "3.3.4", "is 3.3.4: the next of that line is 3.3.3"),
        ("3.3.3", "3.2.9", "is 3.2.9: that line is older"),
        ("3.3.3", "9.0.0", "is 9.0.0: that is not the next line"),
        ("3.3.3", "~", "version_added of rows is ~"),
        ("integer", "number", "type of rows is number"),
        ("      example: ~\n", "", "rows has no example"),
        ('"2"', "2", "default of rows is 2."),
        ("    rows:", "    lines:", r"No added code reads \[api\] lines"),
        ("    rows:", "    pages:", r"\[api\] has pages twice"),
    ],
)
def test_a_fault_of_an_option(registered, old, new, said):
    assert old in OPTION
    told = registered(CONFIG + OPTION.replace(old, new), code=READ)
    assert {"config"} == set(rules(told))
    assert any(re.search(said, finding.what) for finding in told), told


def test_an_option_in_the_wrong_section(registered):
    told = registered(CONFIG.replace("api:", OPTION + "api:"), code=READ)
    assert [finding.what.partition(": ")[2] for finding in told] == [
        "It reads [api] rows, which is not in config.yml.",
        "No added code reads [core] rows.",
    ]


def test_an_option_may_be_of_the_next_minor_release(registered):
    assert registered(CONFIG + OPTION.replace("3.3.3", "3.4.0"), code=READ) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('    description: "New"\n', "", "new.metric has no description"),
        ('"gauge"', '"meter"', "type of new.metric is"),
        ('"gauge"', '"counter"', "gauge is for a gauge, and new.metric is a counter"),
        ('legacy_name: "-"', 'legacy_name: "new"', "legacy_name of new.metric is"),
        ("[]", '["dag_id"]', "name_variables of new.metric is"),
        ("new.metric", "other.metric", "No code uses the metric other.metric"),
        ("new.metric", "other.metric", "The metric new.metric is not in the registry"),
    ],
)
def test_a_fault_of_a_metric(registered, old, new, said):
    assert old in METRIC
    told = registered(metrics=METRICS + METRIC.replace(old, new), code=COUNT)
    assert {"metric"} == set(rules(told))
    assert any(said in finding.what for finding in told), told


def test_functions_of_stats_are_not_imported(registered):
    told = registered(code="from airflow._shared.observability.metrics.stats import incr\n")
    assert rules(told) == ["metric"]


def test_a_release_without_the_registry_of_metrics(patched, pins):
    assert list(registry.check(patched({MODULE: STOCK}, {MODULE: STOCK + COUNT}), pins)) == []


@pytest.fixture
def told_of_files(copy) -> Callable[[], list[str]]:
    """Return what tells the findings of the files of a copy of the project."""

    def tell() -> list[str]:
        found = list(files.news(copy, series.load(copy / "patches")))
        rules(found)
        return [f"{finding.path.relative_to(copy)}: {finding.what}" for finding in found]

    return tell


NEWS = "airflow-core/newsfragments"


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (f"{NEWS}/62431.bugfix.rst", "One.\nTwo.\n", "It has 2 lines"),
        (f"{NEWS}/62431.bugfix.rst", "", "It has 0 lines"),
        (f"{NEWS}/62431.bugfix.rst", "One.", "does not end with one newline"),
        (f"{NEWS}/62431.bugfix.rst", "Call `it`.\n", "code in single backticks"),
        (f"{NEWS}/1.fix.rst", "One.\n", "1.fix.rst is not a valid name"),
        (f"{NEWS}/new.bugfix.rst", "One.\n", "new.bugfix.rst is not a valid name"),
        (f"{NEWS}/1.bugfix.md", "One.\n", "1.bugfix.md is not a valid name"),
        (f"{NEWS}/1.bugfix.rst", "One.\n", "It belongs to no patch"),
        (f"{NEWS}/1.significant.rst", "One.\nTwo.\n", "A significant newsfragment has 1 line"),
        (f"{NEWS}/1.significant.rst", "One.\nTwo.\nThree.\n", "A significant newsfragment has 1 line"),
        ("providers/fab/newsfragments/1.bugfix.rst", "One.\n", "Only core has newsfragments"),
    ],
)
def test_a_fault_of_a_news_line(copy, told_of_files, path, text, said):
    assert told_of_files() == []
    (copy / path).parent.mkdir(exist_ok=True)
    (copy / path).write_text(text)
    found = told_of_files()
    assert any(fault.startswith(f"{path}: ") and said in fault for fault in found), found


@pytest.mark.parametrize("text", ["One.\n", "One.\n\nThree, ``four`` and :doc:`five`.\n"])
def test_a_significant_news_line(copy, told_of_files, text):
    (copy / NEWS / "1.significant.rst").write_text(text)
    assert told_of_files() == [f"{NEWS}/1.significant.rst: It belongs to no patch."]


def test_a_patch_of_the_provider_has_no_news_line(copy, told_of_files):
    with (copy / "patches/news.toml").open("a") as file:
        file.write('user-cache = "61108.bugfix.rst"\n')
    assert told_of_files() == [
        "patches/news.toml: user-cache is for the provider, which has no newsfragments."
    ]


ADDED = "airflow-core/src/airflow/added.py"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"{START}\nimport os\n", "F401"),
        (f"{START}\n\ndef new(value):\n    assert value\n", "S101"),
        (f"{START}\n\nX  = 1\n", "format"),
        (HEAD + "X = 1\n", "I002"),
        (f"{START}\n\ndef new(session) -> None:\n    pass\n", "session"),
        (START.replace("everybody", "nobody"), "licence"),
        ("X = 1\n", "licence"),
    ],
)
def test_an_added_file_is_looked_at_as_a_whole(patched, text, rule):
    made = patched({MODULE: STOCK}, {ADDED: text})
    assert made.files[ADDED].before is None
    told = [
        *tools.ruff_on_edits(made),
        *source.check(made.files[ADDED]),
        *files.licence_of_patched(made),
    ]
    assert rule in rules(told)
    for finding in told:
        assert finding.path.name == "edit-1.patch"
        assert finding.path.read_text().splitlines()[finding.line - 1].startswith("+")


def test_a_clean_added_file_is_clean(patched, pins):
    text = f"{START}\nX = 1\n"
    made = patched({MODULE: STOCK}, {ADDED: text, MODULE: f"{STOCK}\n\nX = 1\n"}, {ADDED: f"{text}Y = 2\n"})
    told = [
        *tools.ruff_on_edits(made),
        *source.check(made.files[ADDED]),
        *files.licence_of_patched(made),
        *registry.check(made, pins),
    ]
    assert told == []
    assert [number for number, _ in made.files[ADDED].added_lines()] == list(range(1, 7))
    assert {patch.path.name for patch, _ in filter(None, made.files[ADDED].origins)} == {
        "edit-1.patch",
        "edit-2.patch",
    }


def test_the_command_looks_at_the_licence_of_an_added_file(copy, pins, adding):
    release = "apache-airflow-core==3.1.8"
    path = "airflow-core/src/airflow/added_module.py"
    patch = adding(release, {path: START}, folder=copy / "patches")
    loaded = series.load(copy / "patches")
    linted = command.lint_upstream(
        copy, dataclasses.replace(loaded, patches=(*loaded.patches, patch)), few(pins)
    )
    assert [(f.path, f.rule) for f in linted.findings] == [(patch.path, "licence")]


def test_licence_heads(tmp_path, ours, patched):
    release = patched({MODULE: STOCK}, {MODULE: STOCK + "X = 1\n"}).release
    file = ours(f"#!/usr/bin/env python\n#\n{HEAD}# More.\n")
    assert list(files.licence(release, {"tests/x.py": file, "newsfragments/1.rst": file})) == []
    file.write_text(START.replace("everybody", "nobody"))
    assert rules(list(files.licence(release, {"tests/x.py": file, "newsfragments/1.rst": file}))) == [
        "licence"
    ]


def test_the_series_passes_in_every_form(root, project, pins):
    linted = command.lint_upstream(root, project, pins, every=True)
    assert [str(finding) for finding in linted.findings] == []
    looked_at = set(linted.releases)
    for patch in project.patches:
        assert any(patch.serves(release) for release in looked_at), patch.name


def test_the_newest_of_each_line_by_default(project, pins):
    names = [str(release) for release in command.chosen(project, pins, every=False)]
    newest = {}
    for release in pins.releases:
        if release.distribution is CORE:
            newest[release.version.release[:2]] = str(release)
    assert names[:-1] == list(newest.values())
    fabs = [release for release in pins.releases if release.distribution is FAB]
    assert names[-1] == str(max(fabs, key=lambda release: release.version))


def few(pins: Pins) -> Pins:
    names = ("apache-airflow-core==3.1.8", "apache-airflow-providers-fab==3.10.2")
    return dataclasses.replace(pins, releases=tuple(r for r in pins.releases if str(r) in names), pairs=())


def test_a_finding_stays_with_its_reason_only(copy, pins):
    test = copy / "airflow-core/tests/unit/api_fastapi/test_auth_manager_singleton.py"
    test.write_text(test.read_text() + "\n\ndef test_new(caplog):\n    pass\n")
    listed = copy / "patches/upstream-lint.toml"
    linted = command.lint_upstream(copy, series.load(copy / "patches"), few(pins))
    (finding,) = linted.findings
    assert (finding.path, finding.rule) == (test, "caplog")
    entry = '[[finding]]\nfile = "{}"\nrule = "caplog"\nsays = "caplog"\nwhy = "Because."\n'
    listed.write_text(listed.read_text() + entry.format(test.relative_to(copy)))
    linted = command.lint_upstream(copy, series.load(copy / "patches"), few(pins))
    assert linted.findings == ()
    assert (finding, "Because.") in linted.excused


def test_an_excuse_that_excuses_nothing_is_found(copy, project, pins):
    listed = copy / "patches/upstream-lint.toml"
    listed.write_text('[[finding]]\nfile = "x.py"\nrule = "caplog"\nsays = "it"\nwhy = "Because."\n')
    told = command.lint_upstream(
        copy, dataclasses.replace(project, folder=copy / "patches", patches=()), few(pins), every=True
    )
    assert [(f.path, f.line, f.rule) for f in told.findings if f.rule == "excuse"] == [(listed, 4, "excuse")]
    listed.unlink()
    with pytest.raises(Problem, match=r"upstream-lint\.toml cannot be read"):
        command.excuses(copy / "patches")


def test_an_excuse_is_for_every_form_of_a_patch(tmp_path):
    excuse = command.Excuse("patches/airflow-core/a.patch", "session", "takes it", "Because.")
    finding = Finding(tmp_path / "patches/airflow-core/a~3.2.patch", 1, "f takes it.", "session", "Do.")
    assert excuse.covers(tmp_path, finding)
    for other in (
        dataclasses.replace(finding, rule="session-commit"),
        dataclasses.replace(finding, what="g takes that."),
        dataclasses.replace(finding, path=tmp_path / "patches/airflow-core/ab.patch"),
        dataclasses.replace(finding, path=tmp_path / "patches/providers-fab/a.patch"),
    ):
        assert not excuse.covers(tmp_path, other)


def test_a_program_that_is_missing_is_one_sentence(tmp_path, ours, monkeypatch):
    ours("X = 1\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for check, name in ((tools.ruff_on_added, "ruff"), (tools.mypy_on_added, "mypy")):
        with pytest.raises(
            Problem, match=rf"^{name} was not found\. Install the development tools"
        ) as raised:
            list(check(tmp_path))
        assert raised.value.exit_code == Exit.USAGE


def test_a_program_next_to_this_python_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert processes.program("git", "Install git.").name == "git"
    (tmp_path / "git").touch()
    assert processes.program("git", "Install git.") == tmp_path / "git"


def test_the_command(root):
    done = subprocess.run(
        [TOOL, "lint-upstream", "--json"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == Exit.OK, done.stderr
    told = json.loads(done.stdout)
    assert "apache-airflow-core==3.3.2" in told["releases"]
    assert all(row["excused"] for row in told["findings"])
    for row in told["findings"]:
        assert (root / row["path"]).is_file()
        assert row["line"] >= 1
        assert row["do"]
