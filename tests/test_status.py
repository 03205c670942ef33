"""What `status` and `wheel` say, as processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_auth_patches.errors import Exit

TOOL = Path(sys.executable).parent / "airflow-auth-patches"


def status(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOL, "status", "--python", python, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
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
    ],
)
def test_a_refusal_says_what_to_do(tmp_path, words, what, remedy):
    release, *slugs = words
    named = [word for slug in slugs for word in ("--patch", slug)]
    done = wheel("--release", release, *named, "--output", f"{tmp_path}")
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (Exit.REFUSED, [what, remedy])
    assert list(tmp_path.iterdir()) == []
