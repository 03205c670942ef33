"""The digests of the published wheels: ``published.json``, which `check --publish` writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.files import write_whole

FILE = "published.json"


@dataclass(frozen=True)
class Published:
    """
    The published wheels with the default patches.

    :param label: their local version label, without ``+``.
    :param patches: ``{release: digest of its default patches}``, see :func:`digest`.
    :param wheels: ``{release: SHA-256 of its patched wheel}``, in hexadecimal.
    """

    label: str = ""
    patches: Mapping[str, str] = field(default_factory=dict)
    wheels: Mapping[str, str] = field(default_factory=dict)


def digest(patches: Iterable[Patch]) -> str:
    """Return the SHA-256 of the names and edits of patches, on which the content of a wheel depends."""
    text = "\n".join(f"{patch.name} {patch.edits_sha256}" for patch in patches)
    return hashlib.sha256(text.encode()).hexdigest()


def read(folder: Path) -> Published:
    """
    Read the digests.

    :param folder: the folder of the series.
    :return: the digests; empty if there is no file.
    :raises Problem: if the file is broken.
    """
    path = folder / FILE
    try:
        return Published(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Published()
    except (OSError, ValueError, TypeError) as error:
        raise Problem(f"{path} cannot be read: {error!r}.", "Restore it from the repository.") from error


def write(folder: Path, published: Published) -> None:
    """
    Write the digests atomically.

    :raises Problem: if the file cannot be written.
    """
    write_whole(folder / FILE, json.dumps(asdict(published), indent=1) + "\n")
