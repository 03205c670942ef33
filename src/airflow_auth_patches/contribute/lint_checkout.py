"""Run upstream's own hooks on the series, with prek in a temporary clone of a checkout of Airflow."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_auth_patches.contribute import branch, send
from airflow_auth_patches.contribute.export import NEWS
from airflow_auth_patches.installation.environments import interpreter
from airflow_auth_patches.releases.checkout import commit_of
from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series import tree
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util import git
from airflow_auth_patches.util.errors import Exit, Problem, UsageProblem
from airflow_auth_patches.util.processes import attempt, program
from airflow_auth_patches.util.progress import SILENT, Progress

AUTHOR = "lint-upstream <lint-upstream@example.org>"
CONFIG = ".pre-commit-config.yaml"
INSTALL = "Install it: python -m pip install prek pyyaml."
HELP = "Check the network, or leave out --every-hook."
#: The languages of hooks that need only Python.
LANGUAGES = ("python", "pygrep", "fail", "script", "system", "unsupported", "unsupported_script")
FAILED = re.compile(r"\.Failed\n\s*- hook id: (\S+)")


@dataclass(frozen=True)
class Hooked:
    """
    The result of upstream's hooks.

    :param release: the release whose forms of the patches are in the checkout.
    :param left_out: ``{hook: reason}`` of the hooks for the changed files that did not run.
    :param failed: the hooks that fail only with the patches.
    :param failed_before: the hooks that fail on the same files without the patches too.
    """

    release: Release
    left_out: Mapping[str, str]
    failed: tuple[str, ...]
    failed_before: tuple[str, ...]
    output: str


def run_hooks(
    project: Project,
    checkout: Path,
    at: str = "HEAD",
    *,
    release: str | None = None,
    names: Sequence[str] | None = None,
    every: bool = False,
    progress: Progress = SILENT,
) -> Hooked:
    """
    Export patches to a clone of a checkout, and run the hooks of the checkout on what they change.

    :param checkout: the checkout of Airflow. It is only read.
    :param release: the release whose forms to use; by default the newest that is not newer than the checkout.
    :param names: exactly these patches; ``None`` for all that are for the release.
    :param every: also run hooks from git repositories, and hooks that need Breeze, Docker, node or a network.
    :raises Problem: if prek is missing or cannot run the hooks, or a patch does not apply.
    """
    prek = program("prek", INSTALL)
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
        folder = Path(name).resolve() / "airflow"
        commit = commit_of(checkout, project.releases.releases[0], at)
        common = git.run(checkout, "rev-parse", "--path-format=absolute", "--git-common-dir").strip()
        git.run(Path(name), "clone", "--quiet", "--shared", "--no-checkout", common, folder)
        git.run(folder, "checkout", "--quiet", "--detach", commit)
        fitting = release or str(branch.release_for(folder, project, list(names or ())))
        chosen = project.releases.release(fitting)
        work = tree.Tree(folder, chosen)
        left_out = [] if every else list(_reduce(folder))
        work.commit("Keep only the hooks that run here\n")
        base = work.git("rev-parse", "HEAD").strip()
        target = send.Target(folder, "series")
        send.export(project, chosen, None, names, author=AUTHOR, target=target, progress=progress)
        work.git("checkout", "--quiet", "series")
        for file in (folder / NEWS).glob("*.*.*.rst"):
            # The counter of newsfragments that share an issue becomes a part of the number, as of a request.
            number, kind, counter, _ = file.name.split(".")
            file.rename(file.with_name(f"{number}{counter}.{kind}.rst"))
        work.commit("Name the newsfragments for pull requests\n")
        changed = work.git("diff", "--name-only", base, "HEAD").splitlines()
        with progress.task("running upstream's hooks"):
            output, failed = _prek(prek, folder, "--from-ref", base, "--to-ref", "HEAD")
        before: tuple[str, ...] = ()
        stock = work.git("diff", "--name-only", "--diff-filter=M", base, "HEAD").splitlines()
        if failed and stock:
            work.git("reset", "--quiet", "--hard", base)
            with progress.task("running the failed hooks without the patches"):
                _, before = _prek(prek, folder, *failed, "--files", *stock)
    return Hooked(
        chosen,
        {hook["id"]: why for within, hook, why in left_out if _concerns(within, hook, changed)},
        tuple(hook for hook in failed if hook not in before),
        before,
        output,
    )


def _reduce(folder: Path) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """
    Remove the hooks that do not run here from the configuration files of a clone.

    prek would otherwise clone the repositories of all hooks first, also of those that it skips.

    :return: the folder of the configuration file of each removed hook, the hook, and the reason.
    """
    try:
        import yaml
    except ImportError as error:
        raise UsageProblem("PyYAML was not found.", INSTALL) from error
    for file in git.run(folder, "ls-files", CONFIG, f"*/{CONFIG}").splitlines():
        path = folder / file
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        for repository in config["repos"]:
            for hook in list(repository["hooks"]):
                if why := _reason(repository["repo"], hook, path.parent):
                    repository["hooks"].remove(hook)
                    yield file.removesuffix(CONFIG), hook, why
        config["repos"] = [repository for repository in config["repos"] if repository["hooks"]]
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _reason(repository: str, hook: Mapping[str, Any], folder: Path) -> str | None:
    """Return why a hook does not run here, or ``None`` if it does."""
    if repository not in ("local", "builtin"):
        return "checks the configuration" if repository == "meta" else "from a git repository"
    if hook.get("stages") == ["manual"]:
        return None  # prek does not run it either
    if repository == "local" and hook["language"] not in LANGUAGES:
        return "needs Docker" if "docker" in hook["language"] else f"needs {hook['language']}"
    script = folder / str(hook.get("entry", "")).split(" ")[0]
    if script.is_file() and re.search("breeze_(prek|shell)", script.read_text(encoding="utf-8")):
        return "needs Breeze"
    return None


def _concerns(within: str, hook: Mapping[str, Any], changed: Sequence[str]) -> bool:
    names = [path.removeprefix(within) for path in changed if path.startswith(within)]
    wanted, unwanted = hook.get("files", ""), hook.get("exclude", "^$")
    return any(re.search(wanted, name) and not re.search(unwanted, name) for name in names)


def _prek(prek: Path, folder: Path, *arguments: str) -> tuple[str, tuple[str, ...]]:
    """Run hooks, and return what prek printed and the hooks that failed."""
    # uv, which prek uses, is next to this interpreter. pyenv's shims do not run every version.
    pythons = [Path(sys.executable), *filter(None, (interpreter(f"3.{minor}") for minor in range(10, 15)))]
    path = os.pathsep.join([*(str(python.parent) for python in pythons), os.environ.get("PATH", "")])
    words: list[str | Path] = [prek, "run", "--color", "never", "--no-progress", "--show-diff-on-failure"]
    done = attempt([*words, *arguments], cwd=folder, env={**git.CALLERS, "PATH": path}, timeout=3600)
    failed = tuple(dict.fromkeys(FAILED.findall(done.stdout)))
    if done.returncode and not failed:
        raise Problem(f"prek failed:\n{(done.stderr or done.stdout).strip()}", HELP, Exit.FAILED)
    return done.stdout, failed
