"""The documents speak of every patch and every bug, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


def test_links_lead_somewhere(root):
    pages = [page for pattern in DOCUMENTS for page in sorted(root.glob(pattern))]
    assert len(pages) > 5
    assert [link for page in pages for link in dead_links(root, page)] == []


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Two words\n[here](#two-words) [there](none.md) [that](#nowhere)\n")
    assert dead_links(tmp_path, page) == ["page.md: none.md#", "page.md: #nowhere"]


@pytest.mark.parametrize("name", ["README.md", "docs/bugs.md"])
def test_every_patch_is_told_of(root, project, name):
    text = (root / name).read_text()
    assert [patch.slug for patch in project.patches if f"/{patch.slug}.patch" not in text] == []


def test_every_bug_has_a_page(root, project):
    text = (root / "docs/bugs.md").read_text()
    rows = re.findall(r"^\| \[`([\w-]+)`\]\((bugs/[\w-]+\.md)\) \|", text, re.MULTILINE)
    assert sorted(slug for slug, _ in rows) == sorted(project.bugs)
    for slug, page in rows:
        assert f"`{slug}`" in (root / "docs" / page).read_text()
