"""The body of a pull request: what the series knows, recorded results, and no name of this project's own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_auth_patches.cli import app
from airflow_auth_patches.contribute import pull_request
from airflow_auth_patches.contribute.send import export
from airflow_auth_patches.demo import recorded, scenarios
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import expectations

ROOT = Path(__file__).parents[1]
AUTHOR = "A Sender <sender@example.org>"
CORE, FAB = "apache-airflow-core==3.3.2", "apache-airflow-providers-fab==3.10.2"
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
        texts = [file.read_text() for file in done.files if file.suffix == ".md"]
        assert [file.suffix for file in done.files] == [".patch", ".md"] * len(served)
        found |= {(name, slug): text for slug, text in zip(served, texts, strict=True)}
    assert {slug for _, slug in found} == {patch.slug for patch in project.patches}
    return found


def test_each_body_has_what_upstream_asks_for(bodies, project, pins):
    for (name, slug), text in bodies.items():
        patch = next(p for p in project.serving(pins.release(name)) if p.slug == slug)
        heads = re.findall(r"(?m)^### (.*)$", text)
        assert heads == [
            *(["What a user sees"] if patch.cures else []),
            "What changes, and why",
            "Measurements",
            "How to verify",
            *(["Trade-off"] if patch.trade_off else []),
        ]
        for bug in patch.cures:
            assert project.bugs[bug].sees[1:] in text.replace("`", "")
        assert f"related: #{patch.trailers['Bug'][0].rpartition('/')[2]}\n" in text
        assert not re.search(r"(?m)^closes:", text)
        assert f"\n{pull_request.GENERATIVE}\n\n- [ ] Yes" in text
        assert not re.search(r"(?m)^Generated-by:|\[[xX]\]", text)
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


def test_every_measurement_is_a_recorded_one_with_its_day_and_its_command(bodies):
    rows = recorded.read(ROOT / recorded.FILE)
    seen = {sees for row in rows for sees in (row["stock"]["sees"], row["patched"]["sees"])}
    shown = 0
    for text in bodies.values():
        said = text.partition("### Measurements\n")[2].partition("### How to verify")[0]
        for name, stock, patched in re.findall(r"(?m)^\| `([\w-]+)` \| \S+[^|]* \| (.*?) \| (.*?) \|", said):
            plain = [cell.replace("`", "").replace("<br>", "; ") for cell in (stock, patched)]
            assert plain[0].partition("; with the plugin: ")[0] in seen
            assert plain[1] in seen
            assert f"demo --only {name}\n" in said
            assert re.search(r"\d{1,2} November 2026", said)
            shown += 1
    assert shown > len(rows)


def test_a_patch_is_shown_on_releases_that_it_serves(bodies):
    text = bodies["apache-airflow-core==3.1.8", "backfill-authorization-off-loop"]
    assert re.findall(r"(?m)^\| `route-sweep` \| (\S+) \|", text) == ["3.1.8+3.4.0"]


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
    assert f" {len(expected.fails_on_stock)} fail without this change" in text
    assert f" {len(expected.regression)} pass with it and without it" in text
    assert f" {len(expected.new_api)} are on what it adds" in text
    assert "Each of its 12 safeguards" in text


def test_the_rows_of_all_scenarios_of_a_patch_are_in_one_table(bodies):
    text = bodies[FAB, "flask-teardown-guard"]
    assert text.count("\n| --- |") == 1
    assert "| `truncated-page` |" in text
    assert "| `truncated-page-database` |" in text


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
    both = "backport-to-v3-3-test, backport-to-v3-2-test"
    assert labels[CORE, "pool-slots-session"] == [f"{both}, backport-to-v3-1-test"]
    assert labels[CORE, "revoked-token-off-loop"] == [both]
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
        "0001-user-cache.md",
        "0001-user-cache.patch",
    ]
