"""A damaged installation is reported, and repaired to the pristine or to the patched releases."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import installed
from airflow_auth_patches.installation.repair import repair
from airflow_auth_patches.releases.releases import CORE, FAB
from airflow_auth_patches.util.errors import Exit, Problem

TOOL = Path(sys.executable).parent / "airflow-auth-patches"
STOCK, PATCHED = ["3.1.6", "3.3.0"], ["3.1.6+authpatches.2", "3.3.0+authpatches.2"]
CORE_INFO = "apache_airflow_core-3.1.6.dist-info"

#: Replaces the start of the environment's pip: it ends like a killed one, after it removed a release.
KILLED = """
import os, pip._internal.req.req_install as req_install
def uninstall(*words, take=req_install.InstallRequirement.uninstall, **named):
    taken = take(*words, **named)
    os.kill(os.getppid(), 9)
    os.kill(os.getpid(), 9)
req_install.InstallRequirement.uninstall = uninstall
from pip._internal.cli.main import main
main()
"""


def kill_during_apply(small) -> None:
    """Run `apply` in a process that is killed with its pip, and let pip work again."""
    start = small.site / "pip/__main__.py"
    content = start.read_bytes()
    start.unlink()
    start.write_text(KILLED)
    done = subprocess.run(small.apply_command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -9, done.stderr
    start.write_bytes(content)


def remove_core(small) -> None:
    shutil.rmtree(small.site / CORE_INFO)
    (small.site / "airflow/settings.py").unlink()


def remove_metadata(small) -> None:
    (small.site / CORE_INFO / "METADATA").unlink()


def empty_metadata(small) -> None:
    remove_metadata(small)
    (small.site / CORE_INFO / "METADATA").touch()


def remove_record(small) -> None:
    (small.site / CORE_INFO / "RECORD").unlink()


def rename_info(small) -> None:
    (small.site / CORE_INFO).rename(small.site / f"~{CORE_INFO[1:]}")
    (small.site / "airflow/api").rename(small.site / "airflow/~pi")


def double_info(small) -> None:
    shutil.copytree(small.site / CORE_INFO, small.site / CORE_INFO.replace("3.1.6", "3.1.5"))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (remove_metadata, "METADATA: No such file"),
        (empty_metadata, "METADATA has no name and version"),
        (remove_record, "RECORD: No such file"),
        (rename_info, "pip left "),
    ],
)
def test_damage_is_refused_by_every_command_and_repaired(small, harm, said):
    harm(small)
    for command in (
        lambda: patching.plan(small.python, None, small.pins),
        lambda: patching.revert(small.python, small.pins),
    ):
        with pytest.raises(Problem, match=said) as refused:
            command()
        assert refused.value.exit_code is Exit.DAMAGED
        assert f"airflow-auth-patches repair --python {small.python}" in refused.value.remedy
    done = repair(small.python, small.pins)
    assert any(said in what for what in done.damage)
    assert done.releases == ("apache-airflow-core==3.1.6",)
    assert small.versions == STOCK
    assert repair(small.python, small.pins) is None


@pytest.mark.parametrize(
    ("harm", "said"),
    [(remove_core, "is installed without"), (double_info, "has 2 dist-info folders")],
)
def test_repair_needs_the_release_where_the_traces_do_not_show_it(small, harm, said):
    harm(small)
    with pytest.raises(Problem, match="is unknown") as refused:
        repair(small.python, small.pins)
    assert refused.value.exit_code is Exit.REFUSED
    assert "--release apache-airflow-core==VERSION" in refused.value.remedy
    done = repair(small.python, small.pins, releases=[small.pins.release("apache-airflow-core==3.1.6")])
    assert said in done.damage[0]
    assert small.versions == STOCK


def test_repair_takes_the_version_of_core_from_airflow(small):
    remove_core(small)
    info = small.site / "apache_airflow-3.1.6.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: apache-airflow\nVersion: 3.1.6\n")
    repair(small.python, small.pins)
    assert small.versions == STOCK


@pytest.mark.parametrize("patched", [False, True])
def test_killed_apply_leaves_a_journal_and_is_repaired(small, patched):
    kill_during_apply(small)
    told = json.loads((small.site / ".airflow-auth-patches/journal.json").read_text())
    assert told["command"] == "apply"
    assert told["installed"] == ["apache-airflow-core==3.1.6", "apache-airflow-providers-fab==3.3.0"]
    assert told["installing"] == [f"{each}+authpatches.2" for each in told["installed"]]
    done = subprocess.run(
        [TOOL, "status", "--python", small.python], capture_output=True, text=True, check=False
    )
    assert done.returncode == Exit.DAMAGED
    assert "`apply` did not end" in done.stderr
    repair(small.python, small.pins, patched=patched)
    assert small.versions == (PATCHED if patched else STOCK)


def test_repair_of_one_release_also_restores_the_other_one(small):
    """Some patches break the other distribution if its patches are missing."""
    patching.apply(small.plan(), small.pins)
    (small.site / "apache_airflow_providers_fab-3.3.0+authpatches.2.dist-info/RECORD").unlink()
    done = repair(small.python, small.pins)
    assert len(done.releases) == 2
    assert small.versions == STOCK


def test_failed_repair_keeps_the_journal_and_can_be_repeated(small):
    remove_metadata(small)
    start = small.site / "pip/__main__.py"
    content = start.read_bytes()
    start.unlink()
    start.write_text("raise SystemExit(1)\n")
    with pytest.raises(Problem, match="could not be repaired") as failed:
        repair(small.python, small.pins)
    assert failed.value.exit_code is Exit.DAMAGED
    start.write_bytes(content)
    with pytest.raises(Problem, match="`repair` did not end"):
        installed.look(small.python, small.pins)
    repair(small.python, small.pins)
    assert small.versions == STOCK


def test_damaged_release_that_is_not_pinned_is_not_repaired(small):
    remove_metadata(small)
    (small.site / CORE_INFO).rename(small.site / CORE_INFO.replace("3.1.6", "3.0.6"))
    with pytest.raises(Problem, match=r"core 3\.0\.6 is damaged, and is not a pinned release") as refused:
        repair(small.python, small.pins)
    assert "pip install --force-reinstall --no-deps apache-airflow-core==3.0.6" in refused.value.remedy


def test_repair_of_an_interrupted_change_needs_no_network_and_no_cache(small, monkeypatch, tmp_path):
    """The other distribution is patched, and is restored too."""
    patching.apply(small.plan(), small.pins)
    start = small.site / "pip/__main__.py"
    content = start.read_bytes()
    start.unlink()
    start.write_text(
        "import pathlib, sys\n"
        "for path in pathlib.Path(__file__).parents[1].glob('apache_airflow_providers_fab-*/RECORD'):\n"
        "    path.unlink()\n"
        "sys.exit(1)\n"
    )
    planned = small.plan("PATCHED = 3\n")
    with pytest.raises(Problem, match="could not be restored"):
        patching.apply(type(planned)(planned.installation, planned.steps[1:]), small.pins)
    start.write_bytes(content)
    with monkeypatch.context() as offline:
        offline.setenv("UV_OFFLINE", "1")
        offline.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path / "empty"))
        done = repair(small.python, small.pins)
    assert len(done.releases) == 2
    assert small.versions == STOCK


def test_patched_repair_needs_a_journal(small):
    remove_metadata(small)
    with pytest.raises(Problem, match="No journal has patched wheels"):
        repair(small.python, small.pins, patched=True)


def test_leftover_of_another_package_is_no_damage(small):
    for name in ("~umpy", "airflow/providers/~oogle"):
        (small.site / name).mkdir()
    assert {each.distribution for each in installed.look(small.python, small.pins).found} == {CORE, FAB}


def test_unwritable_journal_changes_nothing(small):
    (small.site / ".airflow-auth-patches").touch()
    planned = small.plan()
    with pytest.raises(Problem, match="cannot be written") as refused:
        patching.apply(planned, small.pins)
    assert refused.value.exit_code is Exit.REFUSED
    (small.site / ".airflow-auth-patches").unlink()
    assert small.versions == STOCK
