"""The probe of each patch fails on a real stock server, and passes with the patch and what it depends on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_auth_patches.demo.postgresql import PostgreSQL
from airflow_auth_patches.demo.preparation import Keys, Preparation, Settings
from airflow_auth_patches.demo.run import private_folder
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.demo.sweep import SeedData
from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments, pair_environments, running
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series import probes, series
from airflow_auth_patches.series.series import Series

pytestmark = [pytest.mark.live, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
#: A patch is probed on the first of these pairs that it is for.
PAIRS = ("3.3.2+3.10.2", "3.1.8+3.4.0")
TOOL = Path(sys.executable).parent / "airflow-auth-patches"
KNOWN = probes.load(ROOT / "patches")
SERIES = series.load(ROOT / "patches")


@pytest.fixture(scope="module")
def prepare(pins: Pins, python: str) -> Iterator[Callable[[str], tuple[Environment, Preparation]]]:
    """Return a function that returns the environment of a pair, which the tests patch, and its database."""
    made: dict[str, tuple[Environment, Preparation]] = {}
    with ExitStack() as stack:
        home = stack.enter_context(private_folder())
        database = stack.enter_context(PostgreSQL(home / "postgresql"))

        def prepared(name: str) -> tuple[Environment, Preparation]:
            if name not in made:
                pair = pins.pair(name)
                folder = pair_environments.folder_of(ROOT, pair, python, "probes")
                environment = environments.make(pair, python, folder)
                patching.revert(environment.python, pins)
                base = f"base_{len(made)}"
                preparation = Preparation(environment, database, base, home / pair.name, Keys())
                stack.enter_context(preparation).wait()
                made[name] = environment, preparation
            return made[name]

        yield prepared


def with_dependencies(project: Series, slug: str) -> list[str]:
    """Return a patch, what it depends on, and what its probe needs."""
    names = [slug]
    for name in names:
        more = (*project.forms(name)[0].requires, *KNOWN[name].needs)
        names += [each for each in more if each not in names]
    return names


@pytest.mark.parametrize(
    "slug",
    [slug for slug, probe in KNOWN.items() if probe.kind and probes.required(SERIES.forms(slug)[0])],
)
def test_probe_fails_on_stock_and_passes_with_the_patch(
    slug: str,
    prepare: Callable[[str], tuple[Environment, Preparation]],
    project: Series,
    pins: Pins,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    serving = {
        name: {patch.slug for release in (pair.core, pair.fab) for patch in project.serving(release)}
        for name, pair in ((name, pins.pair(name)) for name in PAIRS)
    }
    name = next(name for name in PAIRS if slug in serving[name])
    environment, preparation = prepare(name)
    python = environment.python
    small = KNOWN[slug].kind != "browser-sessions"
    settings = Settings(
        pool_size=3 if small else 5,
        max_overflow=2 if small else 10,
        pool_timeout=5 if small else 30,
        more=KNOWN[slug].settings,
    )
    told = {}
    for patched in (False, True):
        patching.revert(python, pins)
        if patched:
            served = [each for each in with_dependencies(project, slug) if each in serving[name]]
            patching.apply(patching.plan(python, project, pins, served), pins)
        # `verify` rejects a process that started shortly after the files changed.
        time.sleep(running.MARGIN + 1.1)
        server = Server(
            environment,
            name,
            "probed",
            prepared=preparation,
            settings=settings,
            log=tmp_path / f"{patched}.log",
        )
        with server:
            server.wait()
            if "{task_id}" in KNOWN[slug].request:
                SeedData(server).create()
            words = [TOOL, "breeze", "verify", "--python", python, "--url", server.url, "--patch", slug]
            done = subprocess.run(
                [*words, "--json", *([] if patched else ["--unpatched"])],
                capture_output=True,
                text=True,
                check=False,
                timeout=400,
                env={key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")},
            )
            assert done.returncode == 0, f"{'patched' if patched else 'stock'}: {done.stdout}{done.stderr}"
            told[patched] = {each["name"]: each for each in json.loads(done.stdout)["scenarios"]}
    for patched, results in told.items():
        record_property("patched" if patched else "stock", results[slug]["sees"])
    assert told[False][slug]["outcome"] == "failed, as expected"
    assert told[True][slug]["outcome"] == "passed"
    assert told[True]["sequence"]["outcome"] == "passed"
