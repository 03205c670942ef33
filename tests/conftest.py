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
from typing import Any

import pytest
from checkouts import Repository, Shell
from small_releases import Small, small_wheel

from airflow_auth_patches.contribute.send import Exported, Target, export
from airflow_auth_patches.demo.databases import NotInstalled
from airflow_auth_patches.installation import environments
from airflow_auth_patches.releases import fetching, releases
from airflow_auth_patches.releases.releases import CORE, Pins, Release
from airflow_auth_patches.series import affected, series, tree
from airflow_auth_patches.series.affected import Result
from airflow_auth_patches.series.bugs import Bug
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.processes import run
from airflow_auth_patches.verification import run_pytest

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


#: The files that take the most time, in the order in which they begin.
LONGEST = (
    "test_expectations.py",
    "test_admission.py",
    "test_rehearsal.py",
    "test_verify.py",
    "test_end_to_end.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # No worker has a long file left when the others have nothing to do.
    def rank(item: pytest.Item) -> int:
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)

    items.sort(key=rank)


_interrupted = threading.Event()


def pytest_keyboard_interrupt() -> None:
    _interrupted.set()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    # pytest-xdist waits ten seconds for an interrupted worker, which does not end by itself.
    if _interrupted.is_set() and "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(pytest.ExitCode.INTERRUPTED)


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


@pytest.fixture(scope="session")
def this_project(project: Series, pins: Pins) -> Project:
    return Project(ROOT, project, pins)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the project's own files that a test may break."""
    target = tmp_path / "project"
    for name in ("patches", "airflow-core", "providers", run_pytest.PLUGIN_STUB):
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


@pytest.fixture(scope="session")
def repository() -> type[Repository]:
    return Repository


@pytest.fixture
def airflow(tmp_path: Path) -> Repository:
    """Return a repository laid out as Airflow's, with some files that patches edit."""
    core, fab = "airflow-core/src/airflow/", "providers/fab/src/airflow/providers/fab/"
    shared = "shared/logging/src/airflow_shared/logging/a.py"
    stock = dict.fromkeys((f"{core}api_fastapi/app.py", f"{fab}www/app.py", shared, "dev/a.py"), "stock\n")
    versions = {core: "3.2.1", fab: "3.11.0"}
    packages = {f"{path}__init__.py": f'__version__ = "{number}"\n' for path, number in versions.items()}
    return Repository(tmp_path / "airflow", {**stock, **packages})


@pytest.fixture
def stock(tmp_path: Path, project: Series) -> Callable[[Release], Repository]:
    """Return a function that makes a repository with the files that the patches of a release edit."""

    def make(release: Release) -> Repository:
        files, dist = fetching.sources(release), release.distribution
        paths = {path for patch in project.serving(release) for path in patch.edits if path in files}
        paths.add(f"{dist.root}/src/{dist.package}/__init__.py")
        return Repository(tmp_path / "airflow", {path: files[path] for path in paths})

    return make


@pytest.fixture
def upstream(stock: Callable[[Release], Repository], pins: Pins) -> Repository:
    return stock(pins.find(CORE, "3.3.2"))


@pytest.fixture
def send(project: Series, pins: Pins, upstream: Repository) -> Callable[..., Exported]:
    """Return a function that creates a branch with patches of core in a checkout, by default `upstream`."""

    def sent(*slugs: str, loaded: Series = project, output: Path | None = None, **target: Any) -> Exported:
        where = Target(**{"path": upstream.folder, **target})
        release, author = pins.find(CORE, "3.3.2"), "Zoë Łukasz, of the Tests <zoe@example.org>"
        return export(Project(ROOT, loaded, pins), release, output, slugs, author=author, target=where)

    return sent


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "bin")


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
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
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


@pytest.fixture(scope="session")
def stock_airflow(tmp_path_factory: pytest.TempPathFactory, pins: Pins) -> Path:
    """Return an environment with core 3.1.6, FAB provider 3.3.0 and pip, and nothing else."""
    folder = tmp_path_factory.mktemp("stock") / "env"
    run([sys.executable, "-m", "venv", "--copies", folder])
    pair = pins.pair("3.1.6+3.3.0")
    words = ["--no-index", "--no-deps", "--link-mode", "copy", "--python", folder / "bin/python"]
    words += [fetching.fetch(release, "wheel") for release in (pair.core, pair.fab)]
    run([environments.uv(), "pip", "install", "--quiet", *words])
    return folder


@pytest.fixture
def stock_python(stock_airflow: Path, tmp_path: Path) -> Path:
    """Return the python of a copy of `stock_airflow`, with hard links: unlink a file before you change it."""
    shutil.copytree(stock_airflow, tmp_path / "env", symlinks=True, copy_function=os.link)
    return tmp_path / "env/bin/python"


@pytest.fixture(scope="session")
def small_airflow(tmp_path_factory: pytest.TempPathFactory, pins: Pins) -> Path:
    """Return a folder with `env`, `patches` and `cache`: see `Small`."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(ROOT / "patches", folder / "patches")
    (folder / "cache").mkdir()
    text = (folder / "patches/releases.toml").read_text()
    pair = pins.pair("3.1.6+3.3.0")
    made = [(release, small_wheel(folder / "cache", release)) for release in (pair.core, pair.fab)]
    for release, wheel in made:
        text = text.replace(release.hashes["wheel"], fetching.sha256(wheel))
    (folder / "patches/releases.toml").write_text(text)
    run([sys.executable, "-m", "venv", "--copies", folder / "env"])
    words = [
        "--no-index",
        "--no-deps",
        "--find-links",
        folder / "cache",
        "--python",
        folder / "env/bin/python",
    ]
    run([environments.uv(), "pip", "install", "--quiet", *words, str(pair.core), str(pair.fab)])
    return folder


@pytest.fixture
def copies(small_airflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Small]:
    """Return a function that copies the environment, with hard links: unlink a file before you change it."""
    shutil.copytree(small_airflow / "cache", tmp_path / "small-cache")
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path / "small-cache"))

    def make(name: str = "copy") -> Small:
        folder = tmp_path / name / "env"
        shutil.copytree(small_airflow / "env", folder, symlinks=True, copy_function=os.link)
        return Small(folder / "bin/python", small_airflow / "patches")

    return make


@pytest.fixture
def small(copies: Callable[..., Small]) -> Small:
    """Return a copy of the environment with small releases."""
    return copies("small")
