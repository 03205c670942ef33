"""The body of a pull request: what the series knows, recorded results, and no name of this project's own."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute import pull_request, upstream
from airflow_auth_patches.contribute.send import export
from airflow_auth_patches.demo import recorded, scenarios
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import expectations

ROOT = Path(__file__).parents[1]
AUTHOR = "A Sender <sender@example.org>"
CORE, FAB = "apache-airflow-core==3.4.0b2", "apache-airflow-providers-fab==3.10.2"
#: The releases on which, together, each patch is.
RELEASES = (
    CORE,
    FAB,
    "apache-airflow-core==3.2.0",
    "apache-airflow-core==3.1.8",
    "apache-airflow-providers-fab==3.3.0",
)


@pytest.fixture(scope="module")
def bodies(this_project, project, pins, tmp_path_factory) -> dict[tuple[str, str], str]:
    """Return the body of every patch on some releases: ``{(release, slug): body}``."""
    found = {}
    for name in RELEASES:
        output = tmp_path_factory.mktemp("bodies") / "out"
        done = export(this_project, pins.release(name), output, author=AUTHOR, bodies=True)
        served = [patch.slug for patch in project.serving(pins.release(name))]
        files = [file for file in done.files if not file.name.endswith(".issue.md")]
        texts = [file.read_text() for file in files if file.suffix == ".md"]
        assert [file.suffix for file in files] == [".patch", ".md"] * len(served)
        found |= {(name, slug): text for slug, text in zip(served, texts, strict=True)}
    assert {slug for _, slug in found} == {patch.slug for patch in project.patches}
    return found


def test_each_body_has_what_upstream_asks_for(bodies, project, pins):
    questions = upstream.load(project.folder).questions
    for (name, slug), text in bodies.items():
        patch = next(p for p in project.serving(pins.release(name)) if p.slug == slug)
        heads = re.findall(r"(?m)^### (.*)$", text)
        assert heads == [
            *(["What a user sees"] if patch.cures else []),
            "What changes, and why",
            "Measurements",
            "How to verify",
            *(["Trade-off"] if patch.trade_off else []),
            *(["Questions"] if any(slug in each.patches for each in questions) else []),
        ]
        for bug in patch.cures:
            assert project.bugs[bug].sees[1:] in text.replace("`", "")
        assert f"related: #{patch.trailers['Bug'][0].rpartition('/')[2]}\n" in text
        assert not re.search(r"(?m)^closes:", text)
        block = text.partition("\n---\n\n")[2]
        assert block.startswith("##### Was generative AI tooling used to co-author this PR?\n")
        assert "\n\n- [ ] Yes (please specify the tool below)\n\n<!--" in block
        assert "\nGenerated-by: <tool> following [the guidelines](https://github.com/apache/" in block
        assert not re.search(r"\[[xX]\]", text)
        assert f"characters): {patch.subject}\n" in text
        assert all(path in text for path in patch.tests)


def test_a_body_says_all_that_the_message_says(bodies, project, pins):
    for (name, slug), text in bodies.items():
        patch = next(p for p in project.serving(pins.release(name)) if p.slug == slug)
        said = " ".join(patch.body.rpartition("\n\n")[0].split())
        plain = " ".join(text.replace("`", "").replace("#", "").split())
        assert said.replace("`", "").replace("#", "") in plain


def test_no_line_of_a_paragraph_is_broken(bodies):
    """Upstream's site breaks lines where a body does."""
    for text in bodies.values():
        said = text.partition("### What changes, and why\n")[2].partition("### Measurements")[0]
        for above, line in zip(said.splitlines(), said.splitlines()[1:], strict=False):
            assert not above or not line or line.startswith("- ")


def test_nobody_is_called_by_a_name_in_code(bodies):
    for text in bodies.values():
        prose = re.sub(r"```.*?```|`[^`\n]*`|<!--.*?-->", "", text, flags=re.DOTALL)
        assert re.findall(r"(?<!\w)@\w+", prose) == []
        assert re.findall(r"\b\w+_\w+\b", prose) == []


def test_no_slug_of_ours_goes_out(bodies, project):
    slugs = {patch.slug for patch in project.patches} - set(scenario_names())
    for text in bodies.values():
        assert [slug for slug in slugs if re.search(rf"(?<![\w-]){slug}(?![\w-])", text)] == []


def scenario_names() -> list[str]:
    return [scenario.name for scenario in scenarios.ALL]


def test_every_measurement_is_a_recorded_one_with_its_day(bodies):
    rows = recorded.read(ROOT / recorded.FILE)
    shown = 0
    for text in bodies.values():
        said = text.partition("### Measurements\n")[2].partition("### How to verify")[0]
        quoted = r"(?m)^`([\w-]+)` of airflow-auth-patches, (\S+)\+(\S+), (\S+ \w+ 202\d):\n\n"
        for name, core, fab, day, stock, patched in re.findall(
            rf"{quoted}- before: (.*)\n- after, with all fixes of the series: (.*)$", said
        ):
            assert [
                row
                for row in rows
                if (row["scenario"], row["core"], row["fab"]) == (name, core, fab)
                and row["stock"]["sees"].startswith(stock.replace("`", ""))
                and row["patched"]["sees"].startswith(patched.replace("`", ""))
                and f"{date.fromisoformat(row['measured']):%d %B %Y}".lstrip("0") == day
            ]
            shown += 1
    assert shown > len(pull_request.scenarios(ROOT / "patches"))


def test_a_patch_is_shown_on_releases_that_it_serves(bodies):
    text = bodies["apache-airflow-core==3.1.8", "backfill-authorization-off-loop"]
    assert "`route-sweep` of airflow-auth-patches, 3.1.8+3.4.0, " in text


def test_body_has_at_most_400_words(bodies, project):
    """The newest form of each patch, on the newest of these releases that has it."""
    counts: dict[str, int] = {}
    for (_, slug), text in bodies.items():
        counts.setdefault(slug, pull_request.words(text))
    assert set(counts) == {patch.slug for patch in project.patches}
    assert {slug: count for slug, count in counts.items() if count > pull_request.MOST_WORDS} == {}


def test_counts_words_that_a_reader_sees():
    text = "### Two words\n\n- [ ] `three`\n\n<!-- not\nthis -->\n\n---\n\n```\n#4 five\n```\n"
    assert pull_request.words(text) == 5


def test_questions_are_about_patches_that_reviewers_will_ask_about(bodies, project):
    known = upstream.load(project.folder)
    asked = {question.ask: set() for question in known.questions}
    for question in known.questions:
        asked[question.ask] |= set(question.patches)
    slugs = {patch.slug for patch in project.patches}
    to_send = {each.patch.slug for each in upstream.order(load_project(ROOT))}
    assert {slug for patches in asked.values() for slug in patches} <= slugs
    assert {slug for slug in to_send if slug.endswith("-off-loop")} <= asked[
        "Why not `create_session_async` (#67799)?"
    ]
    assert asked["Why not #73422?"] == {"revoked-token-off-loop", "revoked-token-cache"}
    for question in known.questions:
        for (_, slug), text in bodies.items():
            assert (f"- *{question.ask}* {question.answer}" in text) == (slug in question.patches)


def test_sender_learns_what_is_discussed_first_and_what_is_a_security_matter(bodies):
    assert "\nDiscuss it first: It adds an option" in bodies[CORE, "request-admission"]
    cache = bodies[CORE, "revoked-token-cache"]
    assert "\nNot a public pull request, but a matter for the security process: Other workers" in cache


def test_order_of_sending_has_five_at_a_time_after_what_they_need(this_project):
    sent = upstream.order(this_project)
    batches = {each.patch.slug: each.batch for each in sent}
    known = upstream.load(this_project.series.folder)
    assert {slug for slug, batch in batches.items() if batch is None} == set(known.security)
    numbers = [batch for batch in batches.values() if batch is not None]
    assert numbers == sorted(numbers)
    assert max(Counter(numbers).values()) == upstream.OPEN
    for each in sent:
        for slug in each.after:
            assert each.batch is None or (batches[slug] or 99) < each.batch
    assert "user-from-token-hook" in next(each.after for each in sent if each.patch.slug == "user-cache")
    first = min(batches[slug] for slug in known.discuss)
    undiscussed = [each for each in sent if each.batch is not None and not each.after]
    assert all(each.batch <= first for each in undiscussed if each.patch.slug not in known.discuss)


def test_issue_is_written_for_a_bug_without_one(this_project, pins, tmp_path):
    names = ["action-logging-off-loop", "auth-manager-purge-race"]
    done = export(this_project, pins.release(CORE), tmp_path / "out", names, author=AUTHOR, bodies=True)
    (issue,) = (file for file in done.files if file.name.endswith(".issue.md"))
    assert issue.name == "0001-action-logging-off-loop.issue.md"
    text = issue.read_text()
    assert text.startswith("# A write blocks the API server while its audit log waits\n*Core 3.2.0 to")
    for part in ("**What happened.**", "**How to reproduce.**", "LOCK TABLE log"):
        assert part in text


def test_every_issue_to_file_is_about_bugs_of_patches_to_send(root, project):
    issues = upstream.load(project.folder).issues
    titles = re.findall(r"(?m)^## (.*)$", (root / upstream.ISSUES).read_text())
    assert titles == list(issues)
    assert {bug for about in issues.values() for bug in about} <= set(project.bugs)


def test_every_scenario_that_is_named_is_one(project):
    named = pull_request.scenarios(project.folder)
    assert {name for names in named.values() for name in names} <= set(scenario_names())
    assert set(named) <= {patch.slug for patch in project.patches}


def test_a_patch_is_shown_by_scenarios_of_its_bugs(project):
    """One that cures no bug alone is shown by those of what it belongs to."""
    shows = {scenario.name: set(scenario.bugs) for scenario in scenarios.ALL}
    for slug, names in pull_request.scenarios(project.folder).items():
        cures = {bug for patch in project.patches if patch.slug == slug for bug in patch.cures}
        for name in names:
            assert not cures or cures & shows[name], f"{slug}: {name}"


def test_the_unit_tests_are_counted_as_the_proofs_have_them(bodies, project):
    text = bodies[CORE, "revoked-token-cache"]
    expected = expectations.load(project.folder, "revoked-token-cache")
    assert f"Unit tests that fail without this change: {len(expected.fails_on_stock)}. Guards" in text
    assert "Guards removed in turn, each failing a test: 12." in text


@pytest.mark.parametrize(
    ("release", "slug", "command"),
    [
        (CORE, "pool-slots-session", "breeze start-airflow --mount-sources selected"),
        (
            FAB,
            "user-cache",
            "breeze start-airflow --mount-sources providers-and-tests --use-airflow-version 3.3.2",
        ),
        (
            "apache-airflow-providers-fab==3.3.0",
            "user-cache",
            "breeze start-airflow --mount-sources providers-and-tests --use-airflow-version 3.1.6",
        ),
    ],
)
def test_breeze_loads_what_the_patch_changes(release, slug, command, bodies):
    assert f"\n{command} --auth-manager FabAuthManager --backend postgres\n" in bodies[release, slug]


def test_the_sender_is_told_what_else_there_is(bodies):
    singleton = bodies["apache-airflow-core==3.1.8", "auth-manager-singleton"]
    assert "Sent before: https://github.com/apache/airflow/pull/62431" in singleton
    assert '3.3.0 to 3.4.0 it also requires "Fix 500s when FAB app builders' in singleton
    users = bodies["apache-airflow-providers-fab==3.3.0", "users-route"]
    assert "Not for main: upstream's model has plain dates since 3.4.0." in users
    user_cache = bodies["apache-airflow-providers-fab==3.3.0", "user-cache"]
    assert 'builds on "Keep the API answering' in user_cache


def test_labels_are_for_bug_fixes_on_the_newest_line(bodies):
    labels = {key: re.findall(r"(?m)^Labels: (.*)$", text) for key, text in bodies.items()}
    for slug in ("pool-slots-session", "revoked-token-off-loop"):
        assert labels[CORE, slug] == ["backport-to-v3-3-test"]
    assert labels[CORE, "revoked-token-cache"] == labels[CORE, "user-from-token-hook"] == []
    assert not any(found for (name, _), found in labels.items() if name != CORE)


def test_an_improvement_has_its_trade_off(bodies):
    assert "\n### Trade-off\n\nOther API server workers accept" in bodies[CORE, "revoked-token-cache"]


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("The @cache on _return_appbuilder() is gone.", "The `@cache` on `_return_appbuilder()` is gone."),
        ("a@b.org and `x_y` and .all() stay", "a@b.org and `x_y` and `.all()` stay"),
        ("KeyError 'A_B', a.b_c(d.e_f), 500 (s)", "KeyError '`A_B`', `a.b_c(d.e_f)`, 500 (s)"),
        ("api_fastapi/app.py", "`api_fastapi`/app.py"),
    ],
)
def test_names_in_code_are_marked_once(text, marked):
    assert pull_request.marked(text) == marked
    assert pull_request.marked(marked) == marked


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('["token-race"]', '["fab-users", "token-walk"]', "has no result of token-walk on a release that"),
        ("auth-manager-singleton =", "[auth-manager-singleton", "scenarios.toml cannot be read"),
        ('["token-race"]', "7", "scenarios.toml cannot be read"),
        (None, None, "is not a recorded demonstration"),
    ],
)
def test_measurements_that_are_not_there_are_named_and_nothing_is_written(
    old, new, said, copy, pins, tmp_path
):
    if old is not None:
        (copy / recorded.FILE).parent.mkdir(parents=True)
        shutil.copy(ROOT / recorded.FILE, copy / recorded.FILE)
        path = copy / "patches/scenarios.toml"
        path.write_text(path.read_text().replace(old, new, 1))
    project = load_project(copy)
    release, names = pins.release("apache-airflow-core==3.1.8"), ["auth-manager-singleton"]
    with pytest.raises(Problem, match=re.escape(said)):
        export(project, release, tmp_path / "out", names, author=AUTHOR, bodies=True)
    assert not (tmp_path / "out").exists()


def test_the_command_writes_each_body_next_to_its_commit(tmp_path):
    options = (
        "--release",
        FAB,
        "--patch",
        "user-cache",
        "--author",
        AUTHOR,
        "--output",
        str(tmp_path / "out"),
    )
    done = CliRunner().invoke(app, ["export", *options, "--bodies"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0001-user-cache.issue.md",
        "0001-user-cache.md",
        "0001-user-cache.patch",
    ]
