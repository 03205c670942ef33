"""Write what installs a folder of patched wheels: an index, constraints and hashes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import parse_wheel_filename

from airflow_auth_patches.releases.fetching import sha256
from airflow_auth_patches.releases.releases import DISTRIBUTIONS
from airflow_auth_patches.util.files import write_whole

PAGE = "<!DOCTYPE html>\n<html><body>\n{}</body></html>\n"


def write(wheels: Sequence[Path]) -> list[Path]:
    """
    Write files that install wheels, into the folder of the wheels.

    The same wheels give the same files: ``constraints.txt``, ``requirements.txt`` with hashes,
    ``SHA256SUMS``, and in ``simple`` an index as PEP 503 describes it, for ``--index-url`` or a web server.

    :param wheels: the wheels, all in one folder.
    :return: the paths of the files.
    :raises Problem: if a file cannot be written.
    """
    folder = wheels[0].parent
    for dist in DISTRIBUTIONS:  # no page of an earlier call stays
        (folder / "simple" / dist.name / "index.html").unlink(missing_ok=True)
    pinned, hashed, sums, links = [], [], [], []
    texts: dict[Path, str] = {}
    for wheel in wheels:
        name, version, *_ = parse_wheel_filename(wheel.name)
        digest = sha256(wheel)
        pinned.append(f"{name}=={version}\n")
        hashed.append(f"{name}=={version} --hash=sha256:{digest}\n")
        sums.append(f"{digest}  {wheel.name}\n")
        links.append(f'<a href="{name}/">{name}</a>\n')
        link = f'<a href="../../{html.escape(wheel.name)}#sha256={digest}">{html.escape(wheel.name)}</a>\n'
        texts[folder / "simple" / name / "index.html"] = PAGE.format(link)
    texts[folder / "simple" / "index.html"] = PAGE.format("".join(links))
    texts[folder / "constraints.txt"] = "".join(pinned)
    texts[folder / "requirements.txt"] = "".join(hashed)
    texts[folder / "SHA256SUMS"] = "".join(sums)
    for path, text in texts.items():
        write_whole(path, text)
    return list(texts)
