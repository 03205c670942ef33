"""Read a package index: the page of a distribution, and the files of a release."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pypi_simple

from airflow_auth_patches.releases import index_settings
from airflow_auth_patches.releases.releases import Distribution, Kind, Release
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Progress, Silent

#: The most bytes of a fetched file. No release has a fifth of it.
LIMIT = 128 << 20


def urls() -> list[str]:
    """Return the URLs of the package indexes: the default one, then the extra ones."""
    return index_settings.indexes(pypi_simple.PYPI_SIMPLE_ENDPOINT)


def page(dist: Distribution) -> tuple[pypi_simple.ProjectPage, Mapping[str, datetime.date]]:
    """
    Return the page of a distribution on the default index, and the upload date of each file if it gives it.

    :raises OSError: if the index cannot be reached.
    :raises ValueError: if the page is missing or invalid.
    """
    with opened(urls()[0]) as index:
        url = index.get_project_url(dist.name)
        response = index.s.get(url, timeout=60, headers={"Accept": pypi_simple.ACCEPT_ANY})
        response.raise_for_status()
        found = pypi_simple.ProjectPage.from_response(response, dist.name)
    days = {file.filename: file.upload_time.date() for file in found.packages if file.upload_time}
    if "json" not in response.headers.get("Content-Type", ""):  # the library reads the time only in JSON
        for link in pypi_simple.RepositoryPage.from_html(response.text).links:
            if time := link.get_str_attrib("data-upload-time"):
                days[link.text] = datetime.date.fromisoformat(time[:10])
    return found, days


def download(url: str, release: Release, kind: Kind, target: Path, progress: Progress | None = None) -> None:
    """
    Download the wheel or sdist of a release, of at most `LIMIT` bytes.

    :param url: the package index.
    :param kind: ``wheel`` or ``sdist``.
    :param target: the file to write.
    :raises Problem: UNREACHABLE if the index does not have it.
    :raises OSError: if the index cannot be reached, or the file cannot be written.
    :raises ValueError: if the page of the distribution is missing or invalid.
    """
    name = release.filename(kind)
    with opened(url) as index:
        found = index.get_project_page(release.distribution.name, timeout=60)
        package = next((each for each in found.packages if each.filename == name), None)
        if package is None:
            raise Problem(
                f"The package index has no {name}.",
                "Use an index that is a full mirror of PyPI: set UV_DEFAULT_INDEX.",
                Exit.UNREACHABLE,
            )
        with (progress or Silent()).task(f"fetching {name}", package.size) as advance:
            response = index.s.get(package.url, stream=True, timeout=60)
            response.raise_for_status()
            size = 0
            with target.open("wb") as file:
                for block in response.iter_content(1 << 16):
                    file.write(block)
                    advance(len(block))
                    if (size := size + len(block)) > LIMIT:
                        raise OSError(f"it has more than {LIMIT >> 20} MiB")


@contextmanager
def opened(url: str) -> Iterator[pypi_simple.PyPISimple]:
    """
    Open a client of a package index, which trusts the certificates that pip or uv trusts.

    :param url: the package index.
    :raises ValueError: in the block, for a page that is missing, of an unknown version, or nested too deeply.
    """
    try:
        with pypi_simple.PyPISimple(url) as index:
            index.s.verify = index_settings.certificates() or True
            yield index
    except (pypi_simple.NoSuchProjectError, pypi_simple.UnsupportedRepoVersionError, RecursionError) as error:
        raise ValueError(str(error)) from error
