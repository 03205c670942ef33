"""What `status` says, as a process, on environments with real releases and with the names of older ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_auth_patches import environments, releases
from airflow_auth_patches.errors import Exit
from airflow_auth_patches.processes import run

TOOL = Path(sys.executable).parent / "airflow-auth-patches"
CORE = "apache-airflow-core"


@pytest.fixture
def environment(tmp_path, pins):
    """Return a function that makes an environment: what is pinned is installed, of all else only the name."""

    def make(**found: str) -> Path:
        python = tmp_path / "env/bin/python"
        run([environments.uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "env"])
        (site,) = tmp_path.glob("env/lib/*/site-packages")
        words = ["--quiet", "--no-index", "--no-deps", "--link-mode", "copy", "--python", python]
        for stem, version in found.items():
            name = stem.replace("_", "-")
            known = [r for r in pins.releases if f"{r}" == f"{name}=={version}"]
            if known:
                run([environments.uv(), "pip", "install", *words, releases.fetch(known[0], "wheel")])
            else:
                folder = site / f"{stem}-{version}.dist-info"
                folder.mkdir()
                (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return python

    return make


def status(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOL, "status", "--python", python, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("provider", [None, "1.5.3"])
def test_airflow_2_is_told_whatever_the_provider(environment, provider):
    named = {"apache_airflow_providers_fab": provider} if provider else {}
    done = status(environment(apache_airflow="2.11.0", **named))
    assert done.returncode == Exit.REFUSED
    assert done.stderr.strip().startswith(
        f"Airflow 2.11.0 is out of scope: the series begins with {CORE} 3.1.0."
    )


def test_what_is_no_interpreter_is_said_in_one_line():
    done = status(Path("/bin/ls"))
    assert done.returncode == Exit.USAGE
    assert len(done.stderr.strip().splitlines()) == 2
    assert "import" not in done.stderr


def wheel(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOOL, "wheel", *words], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("words", "what", "remedy"),
    [
        (
            ("apache-airflow-core==3.3.2", "revoked-token-cached-look-up"),
            "revoked-token-cached-look-up joins revoked-token-off-loop, revoked-token-cache: it is taken "
            "whenever all of them are, and never otherwise.",
            "Leave it out.",
        ),
        (
            ("apache-airflow-providers-fab==3.3.0", "user-session", "user-cache"),
            "apache-airflow-providers-fab==3.3.0 takes user-session, user-cache only with session-cleanup.",
            "Name it too: --patch session-cleanup.",
        ),
        (
            ("apache-airflow-core==3.1.4",),
            "apache-airflow-core 3.1.4 was yanked upstream: no patch is for it.",
            "Upgrade it, at least to 3.1.5.",
        ),
    ],
)
def test_a_refusal_says_what_to_do(tmp_path, words, what, remedy):
    release, *slugs = words
    named = [word for slug in slugs for word in ("--patch", slug)]
    done = wheel("--release", release, *named, "--output", f"{tmp_path}")
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (Exit.REFUSED, [what, remedy])
    assert list(tmp_path.iterdir()) == []
