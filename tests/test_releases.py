"""Releases are pinned: a file with another hash is never used, and enters no cache."""

from __future__ import annotations

import hashlib
import http.server
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.version import Version

from airflow_auth_patches.installation import wheels
from airflow_auth_patches.releases import fetching, pinning, releases
from airflow_auth_patches.releases.releases import CORE, FAB
from airflow_auth_patches.util.errors import Exit, Problem


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def publish(page: Path, release: releases.Release, content: bytes) -> None:
    name = release.filename("wheel")
    (page / name).write_bytes(content)
    (page / "index.html").write_text(f'<html><body><a href="{name}">{name}</a></body></html>')


def test_a_file_with_its_hash_is_fetched_once(index, pins, tmp_path):
    newest = pins.release("apache-airflow-core==3.3.2")
    content = b"a wheel"
    pinned = releases.Release(CORE, newest.version, newest.date, newest.pythons, {"wheel": _sha(content)})
    publish(index, pinned, content)
    path = fetching.fetch(pinned, "wheel")
    assert path.read_bytes() == content
    (index / "index.html").unlink()
    assert fetching.fetch(pinned, "wheel") == path


def test_threads_that_fetch_the_same_file_do_not_spoil_it(index, pins, tmp_path):
    content = b"a wheel" * 100_000
    newest = pins.release("apache-airflow-core==3.3.2")
    pinned = releases.Release(CORE, newest.version, newest.date, newest.pythons, {"wheel": _sha(content)})
    publish(index, pinned, content)
    both = threading.Barrier(2, timeout=30)

    class Together:
        """Lets the two begin at once, and end at once."""

        @contextmanager
        def task(self, *_):
            both.wait()
            yield lambda units: None
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(fetching.fetch, pinned, "wheel", Together()) for _ in range(2)]
        assert [run.result().read_bytes() for run in runs] == [content, content]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_another_hash_is_refused_and_not_kept(index, pins, tmp_path):
    release = pins.release("apache-airflow-core==3.3.2")
    publish(index, release, b"not the pinned wheel")
    with pytest.raises(Problem, match="not the pinned") as raised:
        fetching.fetch(release, "wheel")
    assert raised.value.exit_code == Exit.CORRUPT
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_spoiled_file_in_the_cache_is_fetched_again(index, pins, tmp_path):
    content = b"a wheel"
    newest = pins.release("apache-airflow-core==3.3.2")
    pinned = releases.Release(CORE, newest.version, newest.date, newest.pythons, {"wheel": _sha(content)})
    publish(index, pinned, content)
    fetching.fetch(pinned, "wheel").write_bytes(b"spoiled")
    assert fetching.fetch(pinned, "wheel").read_bytes() == content


def test_an_index_without_the_file_is_told(index, pins):
    release = pins.release("apache-airflow-core==3.3.2")
    (index / "index.html").write_text("<html></html>")
    with pytest.raises(Problem, match="has no apache_airflow_core") as raised:
        fetching.fetch(release, "wheel")
    assert raised.value.exit_code == Exit.UNREACHABLE


def test_no_network_is_told_with_what_to_do(pins, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{port}/simple/")
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path))
    with pytest.raises(Problem, match="could not be fetched") as raised:
        fetching.fetch(pins.release("apache-airflow-core==3.3.2"), "wheel")
    assert raised.value.exit_code == Exit.UNREACHABLE
    assert "AIRFLOW_AUTH_PATCHES_CACHE" in raised.value.remedy


@pytest.mark.parametrize(
    ("kind", "answer", "said"),
    [
        ("application/octet-stream", "x", "unsupported Content-Type"),
        ("application/vnd.pypi.simple.v1+json", "{", "Expecting property name"),
        ("application/vnd.pypi.simple.v1+json", '{"meta": {"api-version": "1.0"}}', "validation errors"),
        ("text/html", '<meta name="pypi:repository-version" content="2.0">', r"version \(2\.0\)"),
    ],
)
def test_what_is_no_page_of_an_index_is_told(kind, answer, said, index, pins, monkeypatch):
    monkeypatch.setitem(http.server.SimpleHTTPRequestHandler.extensions_map, ".html", kind)
    (index / "index.html").write_text(answer)
    for ask in (
        lambda: fetching.fetch(pins.release("apache-airflow-core==3.3.2"), "wheel"),
        lambda: pinning.find(CORE, Version("3.3.9")),
    ):
        with pytest.raises(Problem, match=said) as raised:
            ask()
        assert raised.value.exit_code == Exit.UNREACHABLE
        assert "index" in raised.value.remedy
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cache", ["file/cache", "file", "taken"])
def test_a_cache_that_is_none_is_told(cache, index, pins, tmp_path, monkeypatch):
    newest = pins.release("apache-airflow-core==3.3.2")
    content = b"a wheel"
    pinned = releases.Release(CORE, newest.version, newest.date, newest.pythons, {"wheel": _sha(content)})
    publish(index, pinned, content)
    (tmp_path / "file").touch()
    (tmp_path / "taken" / pinned.filename("wheel")).mkdir(parents=True)
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path / cache))
    with pytest.raises(Problem, match="could not be fetched") as raised:
        fetching.fetch(pinned, "wheel")
    assert raised.value.exit_code == Exit.UNREACHABLE
    assert f"the permissions of {tmp_path / cache}," in raised.value.remedy


@pytest.mark.parametrize("name", ["apache-airflow-core", "apache-airflow-core==9.9.9", "flask==3.0.0", "==1"])
def test_a_name_that_names_nothing(pins, name):
    with pytest.raises(Problem) as raised:
        pins.release(name)
    assert raised.value.exit_code == Exit.USAGE
    assert raised.value.remedy


def test_a_local_label_finds_its_public_release(pins):
    found = pins.find(CORE, "3.3.2+authpatches.1")
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
def test_paths(monorepo, installed):
    assert releases.to_installed(monorepo) == installed


@pytest.mark.parametrize(
    ("dist", "member", "monorepo"),
    [
        (CORE, "src/airflow/settings.py", "airflow-core/src/airflow/settings.py"),
        (CORE, "pyproject.toml", "airflow-core/pyproject.toml"),
        (CORE, "src/airflow/_shared/__init__.py", "airflow-core/src/airflow/_shared/__init__.py"),
        (
            CORE,
            "src/airflow/_shared/logging/remote.py",
            "shared/logging/src/airflow_shared/logging/remote.py",
        ),
        (FAB, "tests/unit/fab/x.py", "providers/fab/tests/unit/fab/x.py"),
    ],
)
def test_sdist_paths(dist, member, monorepo):
    assert releases.to_monorepo(dist, member) == monorepo


PAIR = '[[pair]]\ncore = "3.1.6"\nfab = "3.3.0"\nexclude-newer = 2026-02-20\nwhy = "again"\n'
NEWEST = '[[apache-airflow-core]]\nversion = "3.3.2"\n'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('fab = "3.3.0"', 'fab = "3.2.9"', r"the pair 3\.1\.6\+3\.2\.9 has a release that is not pinned"),
        ('core = "3.1.6"', 'core = "x"', r"the pair x\+3\.3\.0 has a release that is not pinned"),
        ("[[pair]]", PAIR + "[[pair]]", r"two entries of the pair 3\.1\.6\+3\.3\.0"),
        ("[[pair]]", PAIR + "default = true\n[[pair]]", r"two entries of the pair 3\.1\.6\+3\.3\.0"),
        (
            NEWEST,
            NEWEST.replace("3.3.2", "3.3.1"),
            r"two entries of the release apache-airflow-core==3\.3\.1",
        ),
        ('wheel = "', 'wheel = "0', r"of the wheel of apache-airflow-\S+, is not a SHA-256"),
        ('sdist = "', 'sdist = "x" # "', r"'x', of the sdist of apache-airflow-\S+, is not a SHA-256"),
        ("\ndate = 2", '\ndate = "soon" # 2', r"date = soon is not a date"),
        ("\ndate = 2", "\ndate = 2026-01-01T00:00:00 # 2", r"is not a date: write it as"),
        (
            "exclude-newer = 2",
            'exclude-newer = "2026-02-20" # 2',
            r"exclude-newer = 2026-02-20 is not a date",
        ),
        ('version = "3.3.2"', 'version = "x"', r"Invalid version: 'x'"),
        ("\nlabel = ", "\nlabels = ", r"lacks 'label'"),
        ("\npythons = ", "\npython = ", r"lacks 'pythons'"),
        ("[[pair]]", "[[pair]", r"cannot be read: "),
    ],
)
def test_what_is_wrong_in_the_pins_is_one_sentence(old, new, said, copy):
    path = copy / "patches/releases.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(Problem, match=said) as raised:
        releases.load(copy / "patches")
    assert raised.value.what.startswith(str(path))
    assert "Error(" not in raised.value.what
    assert "\n" not in str(raised.value)


def test_wheel_and_sdist_agree_on_what_the_series_edits(project, pins):
    """The paths of `to_installed` and `to_monorepo` meet: a patch sees the same bytes in both."""
    for patch in project.patches:
        release = max((r for r in pins.releases if patch.serves(r)), key=lambda r: r.version)
        sources = fetching.sources(release)
        for path in patch.edits:
            if installed := releases.to_installed(path):
                assert wheels.pristine(release, installed) == sources.get(path)


def test_every_provider_is_paired_with_a_core_of_its_days_and_with_the_newest(pins):
    assert len({pair.name for pair in pins.pairs}) == len(pins.pairs) >= 16
    newest = max((each for each in pins.releases if each.distribution is CORE), key=lambda each: each.version)
    for fab in (each for each in pins.releases if each.distribution is FAB):
        cores = [pair.core for pair in pins.pairs if pair.fab is fab]
        assert newest in cores, fab
        assert any(abs((core.date - fab.date).days) <= 45 for core in cores), fab


def test_the_first_pair_of_a_release_is_of_its_days(pins):
    """A core that is older than every provider in scope is paired with the oldest of them."""
    oldest = next(each for each in pins.releases if each.distribution is FAB)
    for release in {each for pair in pins.pairs for each in (pair.core, pair.fab)}:
        first = next(pair for pair in pins.pairs if release in (pair.core, pair.fab))
        assert abs((first.core.date - first.fab.date).days) <= 45 or first.fab is oldest, release
        assert first.fab is not oldest or first.core.date <= oldest.date, release


def test_every_release_is_in_a_pair(pins):
    assert {each for pair in pins.pairs for each in (pair.core, pair.fab)} == {*pins.releases}


def test_a_pair_is_resolved_when_both_are_there_and_says_why_it_was_chosen(pins):
    for pair in pins.pairs:
        assert pair.exclude_newer > max(pair.core.date, pair.fab.date), pair.name
        assert pair.why, pair.name
        assert {*pair.core.pythons} & {*pair.fab.pythons}, pair.name
    assert 0 < len(pins.default_pairs) < len(pins.pairs)


def test_every_release_is_pinned_whole(pins):
    for release in pins.releases:
        assert release.version >= release.distribution.oldest
        assert release.pythons
        assert all(re.fullmatch(r"3\.1\d", python) for python in release.pythons)
        assert all(re.fullmatch(r"[0-9a-f]{64}", release.hashes[kind]) for kind in ("wheel", "sdist"))
    for dist in (CORE, FAB):
        mine = [release for release in pins.releases if release.distribution is dist]
        assert mine == sorted(mine, key=lambda each: each.version)
        assert [each.date for each in mine] == sorted(each.date for each in mine)
    digests = [digest for release in pins.releases for digest in release.hashes.values()]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("secret", ["p%40ss", "p@ss", "p:ss"])
def test_credentials_of_an_index_are_not_printed(pins, monkeypatch, tmp_path, secret):
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://somebody:{secret}@127.0.0.1:1/simple/")
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path))
    with pytest.raises(Problem, match="could not be fetched") as raised:
        fetching.fetch(pins.releases[0], "wheel")
    told = f"{raised.value} {raised.value.what} {raised.value.remedy}"
    assert "somebody" not in told
    assert secret not in told


def test_credentials_are_left_out_of_any_error():
    problem = Problem("uv failed: https://a:b@host/simple and https://c@other/x.", "See http://d:e@f.")
    assert str(problem) == "uv failed: https://host/simple and https://other/x. See http://f."
