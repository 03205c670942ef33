"""Fetch the wheels and sdists of pinned releases, from the cache or the index, and check their hashes."""

from __future__ import annotations

import functools
import hashlib
import os
import tarfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import platformdirs

from airflow_auth_patches.releases.index_settings import offline
from airflow_auth_patches.releases.releases import Distribution, Kind, Release, to_monorepo
from airflow_auth_patches.util.errors import Exit, Problem, first_line
from airflow_auth_patches.util.progress import Progress


def cache_folder() -> Path:
    """Return the folder of fetched files: ``AIRFLOW_AUTH_PATCHES_CACHE``, or the user's cache folder."""
    chosen = os.environ.get("AIRFLOW_AUTH_PATCHES_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("airflow-auth-patches")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fetch(release: Release, kind: Kind, progress: Progress | None = None) -> Path:
    """
    Return the wheel or sdist of a release, from the cache or else from the package index.

    The indexes are those that uv and pip are configured with. A file is used only if it has the pinned hash.

    :param kind: ``wheel`` or ``sdist``.
    :return: the path of the file in the cache.
    :raises Problem: UNREACHABLE if it cannot be fetched or cached, CORRUPT if it has another hash.
    """
    name, pinned = release.filename(kind), release.hashes[kind]
    target = cache_folder() / name
    partial = target.with_name(f".{os.getpid()}.{threading.get_ident()}.{name}")
    problem: Problem | None = None
    try:
        if target.exists() and sha256(target) == pinned:
            return target
        if setting := offline():
            raise Problem(
                f"{name} is not in {target.parent}, and {setting} forbids to fetch it.",
                "Put the file there, or unset it.",
                Exit.UNREACHABLE,
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        # Imported here, because the library takes half of the time that a command needs to start.
        from airflow_auth_patches.releases import index

        for url in index.urls():
            try:
                index.download(url, release, kind, partial, progress)
                if (digest := sha256(partial)) != pinned:
                    raise Problem(
                        f"{name} from the package index has the SHA-256 {digest}, not the pinned {pinned}.",
                        "Do not install it. Find out who changed it.",
                        Exit.CORRUPT,
                    )
                partial.replace(target)
                return target
            except (Problem, OSError, ValueError) as error:
                problem = problem or (
                    error if isinstance(error, Problem) else _unfetched(name, target, error)
                )
    except (OSError, ValueError) as error:
        raise _unfetched(name, target, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    assert problem is not None
    raise problem


def _unfetched(name: str, target: Path, error: Exception) -> Problem:
    problem = Problem(
        f"{name} could not be fetched: {first_line(error)}.",
        f"Check the network, the index and the permissions of {target.parent}, or put the file into the "
        "folder in AIRFLOW_AUTH_PATCHES_CACHE.",
        Exit.UNREACHABLE,
    )
    problem.__cause__ = error
    return problem


# Both are cached by the hash of the sdist.
@functools.lru_cache(maxsize=12)  # an entry takes up to 28 MiB
def _read_sdist(archive: Path, digest: str, dist: Distribution) -> dict[str, bytes]:
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and (file := tar.extractfile(member)):
                files[to_monorepo(dist, member.name.partition("/")[2])] = file.read()
    return files


@functools.lru_cache(maxsize=128)
def _choose(archive: Path, digest: str, dist: Distribution, paths: frozenset[str]) -> dict[str, bytes]:
    files = _read_sdist(archive, digest, dist)
    return {path: files[path] for path in paths if path in files}


def sources(release: Release, progress: Progress | None = None) -> Mapping[str, bytes]:
    """
    Return the files of a release's sdist, at their paths in the monorepo.

    :return: ``{path: content}``. Do not change it, because it is shared.
    :raises Problem: as :func:`fetch` does.
    """
    return _read_sdist(fetch(release, "sdist", progress), release.hashes["sdist"], release.distribution)


def chosen_sources(
    release: Release, paths: frozenset[str], progress: Progress | None = None
) -> Mapping[str, bytes]:
    """
    Return those of some files that a release's sdist has. They stay in memory, unlike those of `sources`.

    :param paths: paths in the monorepo.
    :return: ``{path: content}``. Do not change it, because it is shared.
    :raises Problem: as :func:`fetch` does.
    """
    return _choose(fetch(release, "sdist", progress), release.hashes["sdist"], release.distribution, paths)
