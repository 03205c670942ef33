"""Releases are pinned: a file with another hash is not used, and does not get into the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import re
import socket
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.version import Version

from airflow_auth_patches.releases import fetching, pinning, releases
from airflow_auth_patches.releases.releases import CORE, FAB
from airflow_auth_patches.series import tree
from airflow_auth_patches.util.errors import Exit, Problem

CONTENT = b"a wheel" * 100_000


@pytest.fixture
def newest(pins: releases.Pins) -> releases.Release:
    return pins.release("apache-airflow-core==3.3.2")


@pytest.fixture
def published(index: Path, newest: releases.Release) -> releases.Release:
    """Return the newest release, pinned to a wheel that the index serves."""
    name = newest.filename("wheel")
    (index / name).write_bytes(CONTENT)
    (index / "index.html").write_text(f'<html><body><a href="{name}">{name}</a></body></html>')
    return dataclasses.replace(newest, hashes={"wheel": hashlib.sha256(CONTENT).hexdigest()})


def test_file_is_fetched_once_and_again_when_the_cache_is_corrupt(index, published):
    path = fetching.fetch(published, "wheel")
    assert path.read_bytes() == CONTENT
    page = (index / "index.html").read_text()
    (index / "index.html").unlink()
    assert fetching.fetch(published, "wheel") == path
    (index / "index.html").write_text(page)
    path.write_bytes(b"corrupt")
    assert fetching.fetch(published, "wheel").read_bytes() == CONTENT


def test_threads_can_fetch_the_same_file(published, tmp_path):
    both = threading.Barrier(2, timeout=30)

    class Together:
        """Progress that starts and ends both downloads at the same time."""

        @contextmanager
        def task(self, *_):
            both.wait()
            yield lambda units: None
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(fetching.fetch, published, "wheel", Together()) for _ in range(2)]
        assert [run.result().read_bytes() for run in runs] == [CONTENT, CONTENT]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_refuses_another_hash_and_does_not_keep_the_file(published, newest, tmp_path):
    with pytest.raises(Problem, match="not the pinned") as raised:
        fetching.fetch(newest, "wheel")
    assert raised.value.exit_code == Exit.CORRUPT
    assert list((tmp_path / "cache").iterdir()) == []


def test_reports_index_without_the_file(index, newest):
    (index / "index.html").write_text("<html></html>")
    with pytest.raises(Problem, match="has no apache_airflow_core") as raised:
        fetching.fetch(newest, "wheel")
    assert raised.value.exit_code == Exit.UNREACHABLE


@pytest.mark.parametrize("secret", ["p%40ss", "p@ss", "p:ss"])
def test_reports_unreachable_index_without_its_credentials(newest, monkeypatch, tmp_path, secret):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://somebody:{secret}@127.0.0.1:{port}/simple/")
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path))
    with pytest.raises(Problem, match="could not be fetched") as raised:
        fetching.fetch(newest, "wheel")
    assert raised.value.exit_code == Exit.UNREACHABLE
    assert "AIRFLOW_AUTH_PATCHES_CACHE" in raised.value.remedy
    message = f"{raised.value} {raised.value.what} {raised.value.remedy}"
    assert "somebody" not in message
    assert secret not in message


def test_error_messages_have_no_credentials_of_a_url():
    problem = Problem("uv failed: https://a:b@host/simple and https://c@other/x.", "See http://d:e@f.")
    assert str(problem) == "uv failed: https://host/simple and https://other/x. See http://f."


@pytest.mark.parametrize(
    ("kind", "answer", "said"),
    [
        ("application/octet-stream", "x", "unsupported Content-Type"),
        ("application/vnd.pypi.simple.v1+json", "{", "Expecting property name"),
        ("application/vnd.pypi.simple.v1+json", '{"meta": {"api-version": "1.0"}}', "validation errors"),
        ("text/html", '<meta name="pypi:repository-version" content="2.0">', r"version \(2\.0\)"),
    ],
)
def test_refuses_page_that_is_not_of_an_index(kind, answer, said, index, newest, monkeypatch):
    monkeypatch.setitem(http.server.SimpleHTTPRequestHandler.extensions_map, ".html", kind)
    (index / "index.html").write_text(answer)
    for ask in (
        lambda: fetching.fetch(newest, "wheel"),
        lambda: pinning.find(CORE, Version("3.3.9")),
    ):
        with pytest.raises(Problem, match=said) as raised:
            ask()
        assert raised.value.exit_code == Exit.UNREACHABLE
        assert "index" in raised.value.remedy
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cache", ["file/cache", "file", "taken"])
def test_reports_cache_that_cannot_be_written(cache, published, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "taken" / published.filename("wheel")).mkdir(parents=True)
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path / cache))
    with pytest.raises(Problem, match="could not be fetched") as raised:
        fetching.fetch(published, "wheel")
    assert raised.value.exit_code == Exit.UNREACHABLE
    assert f"the permissions of {tmp_path / cache}," in raised.value.remedy


def test_version_with_a_local_label_finds_its_release(pins):
    found = pins.find(CORE, "3.3.2+authpatches.2")
    assert found is not None
    assert str(found.version) == "3.3.2"
    assert pins.find(CORE, "no version") is None


@pytest.mark.parametrize(
    ("monorepo", "installed"),
    [
        ("airflow-core/src/airflow/settings.py", "airflow/settings.py"),
        ("providers/fab/src/airflow/providers/fab/www/app.py", "airflow/providers/fab/www/app.py"),
        ("shared/logging/src/airflow_shared/logging/remote.py", "airflow/_shared/logging/remote.py"),
        ("airflow-core/pyproject.toml", None),
        ("providers/fab/tests/unit/fab/test_x.py", None),
    ],
)
def test_installed_path_of_a_monorepo_path(monorepo, installed):
    assert releases.to_installed(monorepo) == installed


@pytest.mark.parametrize(
    ("dist", "member", "monorepo"),
    [
        (CORE, "src/airflow/settings.py", "airflow-core/src/airflow/settings.py"),
        (CORE, "pyproject.toml", "airflow-core/pyproject.toml"),
        (CORE, "src/airflow/_shared/__init__.py", "airflow-core/src/airflow/_shared/__init__.py"),
        (CORE, "src/airflow/_shared/logging/x.py", "shared/logging/src/airflow_shared/logging/x.py"),
        (FAB, "tests/unit/fab/x.py", "providers/fab/tests/unit/fab/x.py"),
    ],
)
def test_monorepo_path_of_an_sdist_member(dist, member, monorepo):
    assert releases.to_monorepo(dist, member) == monorepo


PAIR = '[[pair]]\ncore = "3.1.6"\nfab = "3.3.0"\nexclude-newer = 2026-02-20\nwhy = "again"\n'
NEWEST = '[[apache-airflow-core]]\nversion = "3.3.2"\n'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('fab = "3.3.0"', 'fab = "3.2.9"', r"the pair 3\.1\.6\+3\.2\.9 has a release that is not pinned"),
        ('core = "3.1.6"', 'core = "x"', r"the pair x\+3\.3\.0 has a release that is not pinned"),
        ("[[pair]]", PAIR + "[[pair]]", r"two entries of the pair 3\.1\.6\+3\.3\.0"),
        (
            NEWEST,
            NEWEST.replace("3.3.2", "3.3.1"),
            r"two entries of the release apache-airflow-core==3\.3\.1",
        ),
        ('wheel = "', 'wheel = "0', r"of the wheel of apache-airflow-\S+, is not a SHA-256"),
        ('sdist = "', 'sdist = "x" # "', r"'x', of the sdist of apache-airflow-\S+, is not a SHA-256"),
        ("\ndate = 2", '\ndate = "soon" # 2', r"date = soon is not a date"),
        ("\ndate = 2", "\ndate = 2026-01-01T00:00:00 # 2", r"is not a date: write it as"),
        ("exclude-newer = 2", 'exclude-newer = "2" # 2', r"exclude-newer = 2 is not a date"),
        ('version = "3.3.2"', 'version = "x"', r"Invalid version: 'x'"),
        ("\nlabel = ", "\nlabels = ", r"lacks 'label'"),
        ("\npythons = ", "\npython = ", r"lacks 'pythons'"),
        ("[[pair]]", "[[pair]", r"cannot be read: "),
    ],
)
def test_refuses_wrong_pins_in_one_sentence(old, new, said, copy):
    path = copy / "patches/releases.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(Problem, match=said) as raised:
        releases.load(copy / "patches")
    assert raised.value.what.startswith(str(path))
    assert "Error(" not in raised.value.what
    assert "\n" not in str(raised.value)


def test_wheel_and_sdist_have_the_same_content_of_edited_files(project, pins):
    edited: dict[releases.Release, set[str]] = {}
    for patch in project.patches:
        edited.setdefault(tree.newest(patch, pins), set()).update(patch.edits)
    for release, paths in edited.items():
        sources = fetching.sources(release)
        with zipfile.ZipFile(fetching.fetch(release, "wheel")) as wheel:
            for path in paths:
                if installed := releases.to_installed(path):
                    content = wheel.read(installed) if installed in wheel.NameToInfo else None
                    assert content == sources.get(path), path


def test_every_provider_is_paired_with_a_core_of_its_time_and_the_newest_core(pins):
    assert len({pair.name for pair in pins.pairs}) == len(pins.pairs) >= 16
    final = (each for each in pins.releases if each.distribution is CORE and each.final)
    newest = max(final, key=lambda each: each.version)
    for fab in (each for each in pins.releases if each.distribution is FAB):
        cores = [pair.core for pair in pins.pairs if pair.fab is fab]
        assert newest in cores, fab
        assert any(abs((core.date - fab.date).days) <= 45 for core in cores), fab


def test_every_release_has_a_first_pair_of_its_time(pins):
    """A core that is older than all providers is paired with the oldest of them."""
    oldest = next(each for each in pins.releases if each.distribution is FAB)
    for release in pins.releases:
        first = next(pair for pair in pins.pairs if release in (pair.core, pair.fab))
        assert abs((first.core.date - first.fab.date).days) <= 45 or first.fab is oldest, release
        assert first.fab is not oldest or first.core.date <= oldest.date, release


def test_every_pair_has_a_reason_a_python_and_a_later_date(pins):
    for pair in pins.pairs:
        assert pins.pair(pair.name) is pair
        assert pair.exclude_newer > max(pair.core.date, pair.fab.date), pair.name
        assert pair.why, pair.name
        assert {*pair.core.pythons} & {*pair.fab.pythons}, pair.name
    assert 0 < len(pins.default_pairs) < len(pins.pairs)


def test_every_release_has_pythons_and_own_hashes_and_is_in_order(pins):
    for release in pins.releases:
        assert release.version >= release.distribution.oldest
        assert release.pythons
        assert all(re.fullmatch(r"3\.1\d", python) for python in release.pythons)
        assert all(re.fullmatch(r"[0-9a-f]{64}", release.hashes[kind]) for kind in ("wheel", "sdist"))
    for dist in (CORE, FAB):
        mine = [(each.version, each.date) for each in pins.releases if each.distribution is dist]
        assert mine == sorted(mine)
        assert [date for _, date in mine] == sorted(date for _, date in mine)
    digests = [digest for release in pins.releases for digest in release.hashes.values()]
    assert len(set(digests)) == len(digests)
