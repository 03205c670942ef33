"""Git repositories and the Breeze scripts, as the tests use them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from airflow_auth_patches.series import tree

ROOT = Path(__file__).parents[1]


class Repository:
    """A git repository that a test makes, without the git configuration of the user who runs the tests."""

    def __init__(self, folder: Path, files: Mapping[str, str | bytes]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit(files)

    def git(self, *words: str | Path) -> str:
        """Run git in it, also if it is called from a hook of another, and return the output."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        env = {**plain, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        who = ("-c", "user.name=Up Stream", "-c", "user.email=up@example.org")
        command = ["git", *who, *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, timeout=60, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        content = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        tree.write_files(self.folder, content)

    def commit(self, files: Mapping[str, str | bytes], subject: str = "Change") -> None:
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject)

    def replace(self, path: str, old: bytes, new: bytes) -> None:
        content = (self.folder / path).read_bytes()
        assert content.count(old) == 1
        self.commit({path: content.replace(old, new)})

    def branch(self, name: str, *paths: str, start: str = "main", subject: str = "Change") -> None:
        """Make a branch that changes files, and check it out."""
        self.git("switch", "--quiet", "-c", name, start)
        self.commit(dict.fromkeys(paths, f"changed in {name}\n"), subject)


class Shell:
    """
    Runs the Breeze scripts with nothing on PATH but git, the tool and the programs that a test adds.

    :ivar bin: the one folder on PATH.
    """

    def __init__(self, folder: Path) -> None:
        self.bin = folder
        self.root = ROOT
        folder.mkdir()
        for name in ("git", "dirname", "uname", "cat", "sh", "readlink", "grep"):
            (folder / name).symlink_to(str(shutil.which(name)))
        (folder / "airflow-auth-patches").symlink_to(Path(sys.executable).parent / "airflow-auth-patches")

    def add(self, name: str, text: str) -> None:
        program = self.bin / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    def __call__(self, script: str, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
        command = [self.root / "breeze-scripts" / script, *map(str, words)]
        variables = {**os.environ, "PATH": str(self.bin), **env}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, env=variables
        )

    def refuses(self, *words: object, code: int = 2, **env: str) -> str:
        """Check that a script fails and prints no result, and return its message in one line."""
        done = self(*words, **env)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        return done.stderr.replace("\n", " ")
