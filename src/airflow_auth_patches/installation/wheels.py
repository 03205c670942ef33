"""Build the patched wheel of a release from its pristine wheel."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version
from wheel.wheelfile import WheelFile

from airflow_auth_patches.releases.fetching import fetch
from airflow_auth_patches.releases.releases import Release, to_installed
from airflow_auth_patches.series import hunks, published
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress

#: The file in the dist-info of a patched wheel that lists its patches and changed files.
MANIFEST = "AUTH_PATCHES.json"


@dataclass(frozen=True)
class Patched:
    """
    A release with a set of patches.

    :param before: ``{path below site-packages: pristine content}`` of the edited files. A file that the
        patches add is not in it.
    :param after: ``{path below site-packages: patched content}`` of the edited and added files.
    :param requirements: the requirements that the patches add.
    :param default: whether the patches are those that were published as the default ones of the release.
    """

    release: Release
    patches: tuple[Patch, ...]
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    requirements: tuple[str, ...]
    default: bool = True

    def label(self, base: str) -> str:
        """
        Return the local version label, without ``+``: wheels of other patches have another version.

        :param base: the label of the default patches. That of others ends in a digest of them.
        """
        return base if self.default else f"{base}.x{published.digest(self.patches)[:8]}"


def is_module_path(path: str) -> bool:
    """Check whether a path below site-packages is in Airflow's package, and not outside by ``..``."""
    parts = path.split("/")
    return parts[0] == "airflow" and len(parts) > 1 and not {"", ".", ".."} & set(parts)


def is_of(entry: Mapping[str, str], patch: Patch) -> bool:
    """
    Check whether a patch of an installed wheel has the same name and edits as a patch of the series.

    :param entry: an entry of ``patches`` in the wheel's manifest.
    """
    return (entry["name"], entry["edits"]) == (patch.name, patch.edits_sha256)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def patch_release(release: Release, patches: Sequence[Patch], progress: Progress | None = None) -> Patched:
    """
    Apply patches to the files of a release's pristine wheel, in memory.

    :param patches: the patches, in series order.
    :raises Problem: if a patch does not apply, or requires a patch that is not among them.
    """
    slugs: set[str] = set()
    before: dict[str, bytes] = {}
    after: dict[str, bytes] = {}
    requirements: dict[str, None] = {}
    with WheelFile(fetch(release, "wheel", progress)) as wheel:
        members = set(wheel.namelist())
        for patch in patches:
            if missing := [slug for slug in patch.requires if slug not in slugs]:
                raise Problem(
                    f"{patch.name} requires {', '.join(missing)}, which is not applied to {release}.",
                    f"Add {' '.join(f'--patch {slug}' for slug in missing)}.",
                )
            _check_paths(patch)
            slugs.add(patch.slug)
            requirements.update(dict.fromkeys(patch.added_requirements))
            for path, edits in patch.edits.items():
                installed = to_installed(path)
                if installed is None:
                    continue
                if installed in members and installed not in before:
                    before[installed] = after[installed] = wheel.read(installed)
                try:
                    after.update(hunks.apply_all(after, {installed: edits}))
                except hunks.HunkFault as fault:
                    raise Problem(
                        f"{patch.name} does not apply to {release}: {patch.path}:{fault.line}: {fault.what}",
                        fault.remedy,
                    ) from fault
    return Patched(release, tuple(patches), before, after, tuple(requirements))


def _check_paths(patch: Patch) -> None:
    """Check that a patch names only files of its distribution. The parser removes a ``..`` from the names."""
    named = [
        name.decode("utf-8", "replace") for name in re.findall(rb"(?m)^\+\+\+ (?:b/)?(\S+)", patch.content)
    ]
    for path in {*named, *patch.edits} - {hunks.NOWHERE}:
        installed = to_installed(path)
        ours = path.startswith((f"{patch.distribution.root}/", "shared/"))
        if path not in patch.edits or not ours or (installed and not is_module_path(installed)):
            raise Problem(
                f"{patch.name} names {path}, which is no file of {patch.distribution.name}.",
                "Do not use this patch.",
            )


def pristine(release: Release, path: str) -> bytes | None:
    """Return a file of a release's pristine wheel by its path below site-packages, or ``None``."""
    with WheelFile(fetch(release, "wheel")) as wheel:
        return bytes(wheel.read(path)) if path in wheel.namelist() else None


def manifest(patched: Patched, label: str) -> dict[str, Any]:
    """
    Return the content of ``AUTH_PATCHES.json``.

    It does not depend on the messages of the patches, which change without a new label.

    :param label: the local version label of the wheel, without ``+``.
    :return: ``release``, ``label``, ``patches`` (name, slug, SHA-256 of the edits), ``requires`` (the added
        requirements) and ``files`` (``{path: {"before": SHA-256, "after": SHA-256}}``). ``before`` is
        ``None`` for a file that the patches add.
    """
    return {
        "release": str(patched.release),
        "label": label,
        "patches": [{"name": p.name, "slug": p.slug, "edits": p.edits_sha256} for p in patched.patches],
        "requires": list(patched.requirements),
        "files": {
            path: {
                "before": _digest(patched.before[path]) if path in patched.before else None,
                "after": _digest(content),
            }
            for path, content in sorted(patched.after.items())
        },
    }


def read_manifest(text: str) -> Mapping[str, Any] | None:
    """Return the content of a manifest, or ``None`` if it does not have the format of :func:`manifest`."""
    try:
        told: dict[str, Any] = json.loads(text)
        for patch in told["patches"]:
            if not all(isinstance(patch[key], str) for key in ("name", "slug", "edits")):
                return None
        [bytes.fromhex(hashes["after"]) for hashes in told["files"].values()]
        [Requirement(requirement) for requirement in told["requires"]]
        valid = all(map(is_module_path, told["files"])) and isinstance(told["label"], str)
        return told if valid else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _metadata(text: str, version: str, requirements: Sequence[str]) -> str:
    head, separator, description = text.partition("\n\n")
    lines = head.splitlines()
    lines = [f"Version: {version}" if line.startswith("Version: ") else line for line in lines]
    first = next((n for n, line in enumerate(lines) if line.startswith("Requires-Dist: ")), len(lines))
    lines[first:first] = [f"Requires-Dist: {Requirement(requirement)}" for requirement in requirements]
    return "\n".join(lines) + separator + description


class _SteadyWheel(WheelFile):  # type: ignore[misc]
    """A wheel in which every member has a given date, also RECORD, which the library dates by the clock."""

    def __init__(self, path: Path, date: tuple[int, int, int, int, int, int]) -> None:
        super().__init__(path, "w", zipfile.ZIP_STORED)
        self._date = date

    def writestr(
        self, zinfo_or_arcname: zipfile.ZipInfo | str, data: bytes | str, compress_type: int | None = None
    ) -> None:
        name = zinfo_or_arcname if isinstance(zinfo_or_arcname, str) else zinfo_or_arcname.filename
        entry = zipfile.ZipInfo(name, self._date)
        entry.external_attr = 0o100644 << 16
        super().writestr(entry, data, compress_type)


def write(
    release: Release,
    label: str,
    files: Mapping[str, bytes],
    told: Mapping[str, Any],
    output: Path,
) -> Path:
    """
    Write a wheel of a release with some files replaced or added.

    It is the pristine wheel with a local version label, added ``Requires-Dist`` and ``AUTH_PATCHES.json``.
    The members are stored without compression and have the date of the pristine wheel, so that the bytes
    depend only on that wheel and the arguments, not on the clock or the zlib version.

    :param label: the local version label, without ``+``.
    :param files: ``{path below site-packages: content}`` of the replaced and added files.
    :param told: the content of ``AUTH_PATCHES.json``. Its ``requires`` become ``Requires-Dist``.
    :param output: the folder to write it into.
    :return: the path of the wheel.
    :raises Problem: if the label is not valid, or the wheel cannot be written.
    """
    try:
        if Version(f"{release.version}+{label}").local != label:
            raise InvalidVersion
    except InvalidVersion as error:
        raise Problem(
            f"{label!r} is not a local version label.", "Correct `label` in releases.toml."
        ) from error
    try:
        return _write(release, label, files, told, output)
    except OSError as error:
        raise Problem(
            f"The wheel of {release} cannot be written into {output}: {error.strerror or error}.",
            "Check the permissions of the folder and the free disk space.",
        ) from error


def _write(
    release: Release,
    label: str,
    files: Mapping[str, bytes],
    told: Mapping[str, Any],
    output: Path,
) -> Path:
    stem, version = release.distribution.stem, f"{release.version}+{label}"
    info_before, info_after = f"{stem}-{release.version}.dist-info", f"{stem}-{version}.dist-info"
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".partial-") as partial:
        unfinished = Path(partial) / f"{stem}-{version}-py3-none-any.whl"
        with WheelFile(fetch(release, "wheel")) as source:
            with _SteadyWheel(unfinished, source.infolist()[0].date_time) as wheel:
                members = source.namelist()
                for name in (*members, *sorted(files.keys() - set(members))):
                    if name.endswith("/") or name == source.record_path:
                        continue
                    content = files[name] if name in files else source.read(name)
                    if name == f"{info_before}/METADATA":
                        content = _metadata(content.decode(), version, told["requires"]).encode()
                    wheel.writestr(name.replace(info_before, info_after, 1), content)
                wheel.writestr(f"{info_after}/{MANIFEST}", json.dumps(told, indent=2) + "\n")
        return unfinished.replace(output / unfinished.name)


def build(patched: Patched, label: str, output: Path) -> Path:
    """
    Write the wheel of a patched release, see :func:`write`.

    :param label: the local version label of the default patches, without ``+``: see :meth:`Patched.label`.
    :param output: the folder to write it into.
    :return: the path of the wheel.
    """
    own = patched.label(label)
    return write(patched.release, own, patched.after, manifest(patched, own), output)
