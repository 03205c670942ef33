"""Fixtures of the whole suite."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_auth_patches.demo.databases import NotInstalled
from airflow_auth_patches.releases import fetching, releases
from airflow_auth_patches.releases.releases import CORE, Pins, Release
from airflow_auth_patches.series import affected, series, tree
from airflow_auth_patches.series.affected import Result
from airflow_auth_patches.series.series import Bug, Patch, Series

ROOT = Path(__file__).parents[1]


# A shell's background job ignores Ctrl-C, and so would every program that the tests start and interrupt.
# What they start is in sessions of its own: where the tests are ended, they end it.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    _nohup = _number is signal.SIGHUP and signal.getsignal(_number) is signal.SIG_IGN
    signal.signal(_number, (lambda *_: None) if _nohup else signal.default_int_handler)


#: Where this is set, as in CI, a test whose database is not installed fails.
EVERY_DATABASE = "AUTH_PATCHES_EVERY_DATABASE"


@contextmanager
def skipped_without_database() -> Iterator[None]:
    try:
        yield
    except NotInstalled as error:
        if os.environ.get(EVERY_DATABASE):
            raise
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    with skipped_without_database():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    with skipped_without_database():
        return (yield)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def python() -> str:
    """Return the Python version that environments of Airflow are made with, unless a test names another."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="session")
def project() -> Series:
    return series.load(ROOT / "patches")


@pytest.fixture(scope="session")
def pins() -> Pins:
    return releases.load(ROOT / "patches")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the project's own files that a test may break."""
    target = tmp_path / "project"
    for name in ("patches", "airflow-core", "providers", "tests/standin"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


@pytest.fixture
def adding(tmp_path: Path, pins: Pins) -> Callable[..., Patch]:
    """Return what makes a patch of a release that writes some files, of which the release may lack some."""

    def make(
        name: str,
        files: Mapping[str, str],
        slug: str = "added-module",
        *,
        after: Sequence[Patch] = (),
        folder: Path = tmp_path / "made",
        trailers: str = "",
    ) -> Patch:
        """
        Make the patch, in the form of `refresh`.

        :param files: what it makes of files: ``{monorepo path: content}``.
        :param after: the patches that it builds on.
        :param folder: where to write it, into the folder of its distribution.
        """
        release = pins.release(name)
        dist = release.distribution
        release_tree = tree.Tree(tmp_path / f"tree-of-{slug}", release)
        release_tree.folder.mkdir()
        paths = {*files, *(path for patch in after for path in patch.edits)}
        stock = fetching.sources(release)
        tree.write_files(release_tree.folder, {path: stock[path] for path in paths if path in stock})
        for patch in after:
            tree.edit(release_tree, patch)
        release_tree.git("init", "--quiet", "--initial-branch=main")
        release_tree.commit("As it was\n")
        tree.write_files(release_tree.folder, {path: text.encode() for path, text in files.items()})
        subject = slug.replace("-", " ").capitalize()
        release_tree.commit(
            f"{subject}\n\nThe server takes too much.\n\nBug: https://example.org\nForwarded: no\n"
            f"Applies-To: {dist.name} =={release.version}\n{trailers}"
        )
        file = folder / dist.folder / f"{slug}.patch"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tree.format_commit(release_tree, "HEAD", {}))
        return series.read_patch(file, dist)

    return make


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Serve a package index from a folder, with an empty cache; return the folder of core's page."""
    page = tmp_path / "index" / "simple" / CORE.name
    page.mkdir(parents=True)
    handler = functools.partial(Quiet, directory=str(tmp_path / "index"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.delenv("UV_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path / "cache"))
    yield page
    server.shutdown()
    server.server_close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def recorded(project: Series) -> Callable[..., Result]:
    """Return a function that makes the recorded result of a bug on a release."""

    def make(bug: Bug, release: Release, stock: str, patched: str | None, series: Series = project) -> Result:
        patches = affected.edits(series, bug, release)
        return Result("other", "3.11", "0" * 64, stock, patched, patches, "inputs")

    return make
