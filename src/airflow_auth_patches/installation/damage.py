"""Find the damage that an interrupted installation leaves, and remove its remnants."""

from __future__ import annotations

import csv
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path

from packaging.version import InvalidVersion, Version

from airflow_auth_patches.installation import journal
from airflow_auth_patches.installation.wheels import MANIFEST
from airflow_auth_patches.releases.releases import CORE, DISTRIBUTIONS, FAB, Distribution


@dataclass(frozen=True)
class Damage:
    """
    A trace of an interrupted installation.

    :param what: one sentence without full stop.
    :param distribution: the damaged distribution; ``None`` for a journal.
    """

    what: str
    distribution: Distribution | None = None


def find(sites: Iterable[Path], prefix: Path) -> list[Damage]:
    """
    Return the damage of an environment; empty if there is none.

    :param sites: the site-packages folders of the environment.
    :param prefix: the folder of the environment, for shorter messages.
    """
    sites = list(sites)
    found = []
    if begun := journal.find(sites):
        found.append(Damage(f"`{begun.command}` did not end: {begun.folder / journal.FILE}"))
    for dist in DISTRIBUTIONS:
        infos = [info for site in sites for info in infos_of(site, dist)]
        if len(infos) > 1:
            found.append(Damage(f"{dist.name} has {len(infos)} dist-info folders: {_names(infos)}", dist))
        for info in infos:
            if wrong := _incomplete(info):
                found.append(Damage(f"{_below(info, prefix)} is incomplete: {wrong}", dist))
        left = [path for site in sites for path in leftovers(site, dist)]
        if left:
            found.append(Damage(f"pip left {_below(left[0], prefix)}{_more(left)}", dist))
    if not any(each.distribution for each in found):
        has = {dist for dist in DISTRIBUTIONS if any(infos_of(site, dist) for site in sites)}
        if FAB in has and CORE not in has:
            found.append(Damage(f"{FAB.name} is installed without {CORE.name}", CORE))
    return found


def infos_of(site: Path, dist: Distribution) -> list[Path]:
    """Return the dist-info folders of a distribution in a site-packages folder."""
    return sorted(site.glob(f"{dist.stem}-*.dist-info"))


def leftovers(site: Path, dist: Distribution) -> list[Path]:
    """Return the files and folders that pip renamed in order to remove them, and did not remove."""
    own = [*site.glob(f"~*{dist.stem[2:]}-*.dist-info")]
    inside = [*site.glob("~*irflow"), *(site / "airflow").rglob("~*")]
    return sorted([*own, *(path for path in inside if _owner(path.relative_to(site)) is dist)])


def _owner(path: Path) -> Distribution | None:
    """Return the distribution of a leftover; ``None`` for one of another provider, or one inside another."""
    *parents, name = path.parts
    if any(part.startswith("~") for part in parents):
        return None
    if parents[:2] == ["airflow", "providers"]:
        return FAB if parents[2:3] == ["fab"] or (len(parents) == 2 and name.endswith("ab")) else None
    return FAB if parents == ["airflow"] and name.endswith("oviders") else CORE


def versions_of(site: Path, dist: Distribution) -> set[str]:
    """Return the public versions of a distribution that the names of its dist-info folders have."""
    found = set()
    for info in (*infos_of(site, dist), *site.glob(f"~*{dist.stem[2:]}-*.dist-info")):
        try:
            found.add(Version(info.name.removesuffix(".dist-info").rpartition("-")[2]).public)
        except InvalidVersion:
            continue
    return found


def clear(site: Path, prefix: Path, dist: Distribution, wheels: Iterable[Path]) -> None:
    """
    Remove what is left of a distribution: its dist-info folders, pip's leftovers, and its files.

    :param site: the site-packages folder.
    :param prefix: the folder of the environment. No file outside is removed.
    :param wheels: wheels whose files are removed too, because an installer may have written them before it
        wrote a RECORD.
    """
    left = leftovers(site, dist)
    infos = [*infos_of(site, dist), *(path for path in left if path.name.endswith(".dist-info"))]
    files = {name for info in infos for name in _recorded(info)}
    for wheel in wheels:
        # The installation of a wheel that cannot be read fails later.
        if wheel.name.startswith(f"{dist.stem}-"):
            with (
                suppress(zipfile.BadZipFile, NotImplementedError, ValueError),
                zipfile.ZipFile(wheel) as opened,
            ):
                files |= {name for name in opened.namelist() if ".dist-info/" not in name}
    for name in files:
        path = Path(os.path.normpath(site / name))
        if prefix in path.parents and (os.path.isfile(path) or os.path.islink(path)):
            path.unlink()
    for path in (*infos, *left):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def rows_of(record: str) -> Iterator[tuple[str, str]]:
    """
    Return the path and the SHA-256 of each line of a RECORD that can be read; an empty one if it has none.

    :param record: the content of the file.
    """
    for line in record.splitlines():
        with suppress(csv.Error):
            path, digest, *_ = [*next(csv.reader([line]), []), "", ""]
            if path:
                yield path, digest.removeprefix("sha256=") if digest.startswith("sha256=") else ""


def _recorded(info: Path) -> Iterator[str]:
    """Return the files of a dist-info folder's RECORD, and those that the patches changed or added."""
    with suppress(OSError):
        yield from (path for path, _ in rows_of((info / "RECORD").read_text("utf-8", "replace")))
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        yield from map(str, json.loads((info / MANIFEST).read_bytes())["files"])


def _incomplete(info: Path) -> str | None:
    try:
        head = BytesHeaderParser().parsebytes((info / "METADATA").read_bytes())
        if not head["Name"] or not head["Version"]:
            return "METADATA has no name and version"
        if not (info / "RECORD").read_bytes().strip():
            return "RECORD is empty"
    except OSError as error:
        return f"{Path(error.filename).name}: {error.strerror}"
    return None


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _below(path: Path, prefix: Path) -> str:
    return str(path.relative_to(prefix)) if prefix in path.parents else str(path)


def _more(paths: Sequence[Path]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""
