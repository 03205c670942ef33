"""Two editions of the series that differ have different labels: record and check the published digests."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from airflow_auth_patches.installation import apply, wheels
from airflow_auth_patches.releases.fetching import sha256
from airflow_auth_patches.series import published
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.published import Published, digest
from airflow_auth_patches.util.errors import Fault, Problem
from airflow_auth_patches.util.progress import SILENT, Progress

PUBLISH = "run `airflow-auth-patches check --publish`"


def faults(project: Project) -> list[Fault]:
    """
    Check that the default patches of each release are those that were published with the label.

    :raises Problem: if the file of the digests is broken.
    """
    known, label = published.read(project.series.folder), project.releases.label
    current = _current(project)
    if known.label != label or current.keys() - known.patches.keys():
        what = f"The label {label} is not published for each release: {PUBLISH}."
    elif changed := [name for name in current if known.patches[name] != current[name]]:
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        what = (
            f"The default patches of {changed[0]}{more} changed, and the label is "
            f"still {label}: raise `label` in patches/releases.toml, and {PUBLISH}."
        )
    else:
        return []
    return [Fault(project.series.folder / published.FILE, 1, what)]


def publish(project: Project, progress: Progress = SILENT) -> None:
    """
    Build the wheel of each release with its default patches, and record its digests.

    :raises Problem: if a wheel with the label was published with other content, or cannot be built.
    """
    before, label, made = published.read(project.series.folder), project.releases.label, {}
    current = _current(project)
    with tempfile.TemporaryDirectory() as folder:
        with progress.task("building the wheel of each release", len(current)) as advance:
            for name in current:
                patched = apply.patched(project.series, project.releases.release(name))
                wheel = wheels.build(replace(patched, default=True), label, Path(folder))
                made[name] = sha256(wheel)
                wheel.unlink()
                advance(1)
    if before.label == label and any(before.wheels.get(name, made[name]) != made[name] for name in made):
        raise Problem(
            f"Wheels with other content were published with the label {label}.",
            "Raise `label` in patches/releases.toml. Nothing was changed.",
        )
    published.write(project.series.folder, Published(label, current, made))


def _current(project: Project) -> dict[str, str]:
    """Return the digest of the default patches of each release that has some."""
    chosen = {str(each): project.series.select(each, optional=False) for each in project.releases}
    return {name: digest(patches) for name, patches in chosen.items() if patches}
