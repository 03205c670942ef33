"""Environments with small releases, and a program that patches one."""

from __future__ import annotations

import sys
from pathlib import Path

from wheel.wheelfile import WheelFile

from airflow_auth_patches.installation import apply, installed, records, wheels
from airflow_auth_patches.installation.apply import Plan, Step
from airflow_auth_patches.installation.lock import locked
from airflow_auth_patches.releases import releases
from airflow_auth_patches.releases.releases import CORE, Release
from airflow_auth_patches.series import series
from airflow_auth_patches.util.errors import Problem


class Small:
    """
    An environment with pip and small releases, which have the names and versions of core 3.1.6 and FAB 3.3.0.

    :ivar python: its interpreter.
    :ivar folder: the series with the hashes of these releases.
    :ivar pins: the pinned releases.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder, self.pins = python, folder, releases.load(folder)
        (self.site,) = python.parents[1].glob("lib/*/site-packages")

    @property
    def versions(self) -> list[str]:
        """The installed versions of core and FAB, of which no file is changed."""
        found = installed.look(self.python, self.pins).found
        assert [line for each in found for line in records.changed_files(each)] == []
        assert [path for each in found for path in records.extra_modules(each)] == []
        assert not [*self.site.rglob("~*"), *self.site.glob(".*")]
        return [each.version for each in found]

    def plan(self, value: str = "PATCHED = 2\n") -> Plan:
        """Return a plan that edits a file of each release and adds one."""
        project, installation = series.load(self.folder), installed.look(self.python, self.pins)
        steps = []
        for found in installation.found:
            release, package = installed.pinned(found), found.distribution.package
            before = {f"{package}/settings.py": b"STOCK = 1\n"}
            after = {f"{package}/settings.py": value.encode(), f"{package}/added/new.py": value.encode()}
            patched = wheels.Patched(release, project.serving(release)[:1], before, after, ())
            steps.append(Step(found, patched, done=False))
        return Plan(installation, tuple(steps))

    @property
    def apply_command(self) -> list[str | Path]:
        """The command that applies the plan in another process. It ends with a `Problem` as its error."""
        # Without -B, Python 3.11 keeps the bytecode that it could write only in part to a full disk.
        return [sys.executable, "-B", __file__, self.python, self.folder]


def small_wheel(folder: Path, release: Release) -> Path:
    """Write a wheel of a release that has a few modules and, for core, the command `airflow`."""
    dist = release.distribution
    path, info = folder / release.filename("wheel"), f"{dist.stem}-{release.version}.dist-info"
    text = {
        f"{dist.package}/{name}.py": "STOCK = 1\n"
        for name in ("__init__", "settings", "api/__init__", "api/app")
    }
    text[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {dist.name}\nVersion: {release.version}\n"
    text[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if dist is CORE:
        text[f"{dist.package}/__main__.py"] = "def main():\n    print('small')\n"
        text[f"{info}/entry_points.txt"] = "[console_scripts]\nairflow = airflow.__main__:main\n"
    with WheelFile(path, "w") as wheel:
        for name, content in text.items():
            wheel.writestr(name, content)
    return path


if __name__ == "__main__":
    small = Small(*map(Path, sys.argv[1:]))
    try:
        with locked(small.python):
            apply.apply(small.plan(), small.pins)
    except Problem as problem:
        sys.exit(f"refused: {problem}")
