"""The documents name every patch, bug and command, and have no dead links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from airflow_auth_patches.cli import app
from airflow_auth_patches.series.series import Patch

LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DOCUMENTS = ("README.md", "docs/*.md", "docs/bugs/*.md")


def anchors(text: str) -> set[str]:
    """Return the anchors that a Markdown page has, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in HEADING.findall(text)
    }


def dead_links(root: Path, page: Path) -> list[str]:
    dead = []
    for path, anchor in LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(f"{page.relative_to(root)}: {path}#{anchor}")
    return dead


def test_no_page_has_a_dead_link(root):
    pages = [page for pattern in DOCUMENTS for page in sorted(root.glob(pattern))]
    assert len(pages) > 5
    assert [link for page in pages for link in dead_links(root, page)] == []


def test_finds_dead_link(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Two words\n[here](#two-words) [there](none.md) [that](#nowhere)\n")
    assert dead_links(tmp_path, page) == ["page.md: none.md#", "page.md: #nowhere"]


@pytest.mark.parametrize("name", ["README.md", "docs/patches.md", "docs/bugs.md"])
def test_page_links_every_patch(root, project, name):
    text = (root / name).read_text()
    assert [patch.slug for patch in project.patches if f"/{patch.slug}.patch" not in text] == []


def test_every_bug_has_a_page(root, project):
    text = (root / "docs/bugs.md").read_text()
    rows = re.findall(r"^\| \[`([\w-]+)`\]\((bugs/[\w-]+\.md)\) \|", text, re.MULTILINE)
    assert sorted(slug for slug, _ in rows) == sorted(project.bugs)
    for slug, page in rows:
        assert f"`{slug}`" in (root / "docs" / page).read_text()


ROW = re.compile(
    r"^\| \[`([\w-]+)`\]\(\S+/([\w-]+)\.patch\) \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE
)


def linked(url: str) -> str:
    return f"[{url.rpartition('/')[2]}]({url})"


def expected_columns(patch: Patch) -> tuple[str, str, str]:
    """Return the columns of docs/upstream.md that follow from the trailers of a patch."""
    (sent,) = patch.trailers["Forwarded"]
    if sent.startswith("https://"):
        sent = linked(sent)
    else:
        sent = "not sent" if sent == "no" else sent.replace("not-needed", "not needed", 1)
    fixed = (
        re.sub("^apache-airflow-(providers-)?", "", each)
        for each in patch.trailers.get("Applied-Upstream", ())
    )
    return sent, ", ".join(fixed) or "-", ", ".join(map(linked, patch.trailers["Bug"]))


@pytest.fixture
def rows(root) -> list[tuple[str, ...]]:
    """Return the rows of docs/upstream.md: slug, file, three columns and note."""
    return ROW.findall((root / "docs/upstream.md").read_text())


def test_upstream_page_agrees_with_the_trailers(rows, project):
    slugs = list(dict.fromkeys(patch.slug for patch in project.patches))
    assert [(slug, file) for slug, file, *_ in rows] == list(zip(slugs, slugs, strict=True))
    columns = {slug: tuple(columns) for slug, _, *columns, _ in rows}
    for patch in project.patches:
        assert columns[patch.slug] == expected_columns(patch), patch.name
    for *_, note in rows:
        assert note
        for number, url in re.findall(r"\[(\d+)\]\((\S+?)\)", note):
            assert re.fullmatch(rf"https://github\.com/apache/airflow/(pull|issues)/{number}", url)


def test_patch_to_send_without_an_own_issue_has_the_text_of_one(root, rows, project):
    """66493 is about the revocation check, and 61339 is a pull request."""
    titles = re.findall(r"^## .*$", (root / "docs/upstream-issues.md").read_text(), re.MULTILINE)
    linked_to = set()
    for slug, *_, note in rows:
        forms = [patch for patch in project.patches if patch.slug == slug]
        of_others = {"66493", "61339"} & {patch.trailers["Bug"][0].rpartition("/")[2] for patch in forms}
        to_send = any(patch.trailers["Forwarded"] == ("no",) for patch in forms)
        found = re.findall(r"\[Issue to file\]\(upstream-issues\.md#([\w-]+)\)", note)
        wanted = to_send and of_others and not slug.startswith(("revoked-token-off", "revoked-token-cache"))
        assert len(found) == bool(wanted), slug
        linked_to.update(found)
    assert linked_to == anchors("\n".join(titles))


@pytest.mark.parametrize("pattern", DOCUMENTS)
def test_named_commands_options_and_make_targets_exist(root, pattern):
    commands = typer.main.get_command(app).commands
    targets = set(re.findall(r"^([\w-]+):.*##", (root / "Makefile").read_text(), re.MULTILINE))
    named = 0
    for page in sorted(root.glob(pattern)):
        text = page.read_text()
        code = "\n".join([*re.findall(r"^    .*$", text, re.MULTILINE), *re.findall(r"`([^`\n]+)`", text)])
        for line in code.splitlines():
            line = re.sub(r"^(\$ )?(make setup && )?(\.venv/bin/)?", "", line.partition("#")[0].strip())
            if match := re.match(r"airflow-auth-patches (\w[\w-]*)(.*)", line):
                named += 1
                assert match[1] in commands, line
                options = {
                    name for each in commands[match[1]].params for name in (*each.opts, *each.secondary_opts)
                }
                assert set(re.findall(r"(?<!\S)--[\w-]+", match[2])) <= options | {"--help"}, line
            elif match := re.match(r"make ((?:[a-z][\w-]*(?: |$))+)", line):
                named += 1
                assert set(match[1].split()) <= targets, line
    assert named or pattern == "docs/bugs/*.md"
