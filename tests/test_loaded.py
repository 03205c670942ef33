"""The requests of `verify` reach the server itself, also with HTTPS."""

from __future__ import annotations

import ssl

import trustme
from local_server import serving

from airflow_auth_patches.installation.loaded import Check, check


def test_certificate_must_be_trusted_but_may_have_another_name(tmp_path, monkeypatch):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("airflow.example.org").configure_cert(context)
    with serving(lambda _: (200, {}), context=context) as url:
        refused = check(url, "/version")
        assert refused.failed
        assert "certificate verify failed" in refused.sees
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert check(url, "/version") == Check("/version", "200", failed=False)


def test_proxy_is_not_used(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(lambda _: (200, {})) as url, serving(lambda _: 502) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        assert not check(url, "/version").failed
