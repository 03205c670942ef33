"""Releases are fetched as pip and uv are configured to fetch: indexes, certificates, no network."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases import index as package_index
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.util.errors import Exit, Problem

CONTENT = b"a wheel"
VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_OFFLINE",
    "PIP_INDEX_URL",
)
VARIABLES += ("PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@pytest.fixture
def published(index: Path, pins) -> Release:
    """Return a release, pinned to a wheel that the index serves."""
    release = pins.release("apache-airflow-core==3.3.2")
    name = release.filename("wheel")
    (index / name).write_bytes(CONTENT)
    (index / "index.html").write_text(f'<html><body><a href="{name}">{name}</a></body></html>')
    return dataclasses.replace(release, hashes={"wheel": hashlib.sha256(CONTENT).hexdigest()})


@pytest.fixture
def url(published, monkeypatch) -> str:
    """Return the URL of the index, without a setting that names it."""
    url = os.environ["PIP_INDEX_URL"]
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return url


NOTHING = "http://127.0.0.1:9/simple/"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UV_DEFAULT_INDEX", "{}"),
        ("UV_DEFAULT_INDEX", "mirror={}"),
        ("UV_INDEX", "mine={}"),
        ("UV_EXTRA_INDEX_URL", "{}"),
        ("PIP_EXTRA_INDEX_URL", f"{NOTHING} {{}}"),
    ],
)
def test_every_index_is_asked(published, url, monkeypatch, name, value):
    monkeypatch.setenv("UV_INDEX_URL", NOTHING)
    monkeypatch.setenv(name, value.format(url))
    assert fetching.fetch(published, "wheel").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["index-url", "extra-index-url"])
@pytest.mark.parametrize("section", ["global", "install"])
def test_configuration_of_pip_names_the_index(published, url, monkeypatch, tmp_path, name, section):
    default = "" if name == "index-url" else f"index-url = {NOTHING}\n"
    (tmp_path / "pip.conf").write_text(f"[{section}]\n{default}{name} =\n    {url}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", f"{tmp_path / 'pip.conf'}")
    assert fetching.fetch(published, "wheel").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["UV_OFFLINE", "PIP_NO_INDEX"])
def test_offline_setting_allows_the_cache_only(published, url, monkeypatch, name):
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv(name, "1")
    with pytest.raises(Problem, match=f"{name}.* forbids to fetch it") as refused:
        fetching.fetch(published, "wheel")
    assert refused.value.exit_code is Exit.UNREACHABLE
    monkeypatch.setenv(name, "0")
    path = fetching.fetch(published, "wheel")
    monkeypatch.setenv(name, "1")
    assert fetching.fetch(published, "wheel") == path


def test_other_index_is_asked_after_one_with_another_file(published, url, monkeypatch, index):
    other = index.parents[1] / "other" / index.name
    other.mkdir(parents=True)
    for file in index.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / published.filename("wheel")).write_bytes(b"another wheel")
    monkeypatch.setenv("UV_DEFAULT_INDEX", url.replace("/simple/", "/other/"))
    with pytest.raises(Problem, match="not the pinned"):
        fetching.fetch(published, "wheel")
    monkeypatch.setenv("UV_INDEX", url)
    assert fetching.fetch(published, "wheel").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["PIP_CERT", "SSL_CERT_FILE"])
def test_certificates_of_pip_and_uv_are_used(monkeypatch, url, name):
    monkeypatch.setenv(name, "/some/certificates.pem")
    with package_index.opened("https://127.0.0.1/simple/") as client:
        assert client.s.verify == "/some/certificates.pem"


def test_endless_file_is_not_fetched(published, url, monkeypatch, tmp_path, index):
    monkeypatch.setattr(package_index, "LIMIT", 1 << 20)
    (index / published.filename("wheel")).write_bytes(b"x" * (3 << 20))
    monkeypatch.setenv("PIP_INDEX_URL", url)
    with pytest.raises(Problem, match="more than 1 MiB"):
        fetching.fetch(published, "wheel")
    assert list((tmp_path / "cache").iterdir()) == []
