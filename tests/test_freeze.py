"""What apply and revert install has no trace of where the wheels were."""

from __future__ import annotations

import shutil

import pytest

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import environments
from airflow_auth_patches.util.processes import run


@pytest.fixture(params=["pip", "uv"])
def either(request, small):
    """Return an environment in a folder with a difficult name, in which pip or uv installs."""
    odd = small.python.parents[2] / "a [/b], 'c'"
    odd.mkdir(parents=True)
    shutil.move(small.python.parents[1], odd)
    moved = type(small)(odd / "env/bin/python", small.folder)
    if request.param == "uv":
        shutil.rmtree(moved.site / "pip")
    return moved


@pytest.mark.operator_task(12, "Freeze the requirements of a patched Airflow", "`apply`, `pip freeze`")
def test_freeze_names_versions_without_a_path(either):
    def frozen() -> list[str]:
        words = ["pip", "freeze", "--quiet", "--python", either.python]
        return [line for line in run([environments.uv(), *words]).splitlines() if "airflow" in line]

    label = f"+{either.pins.label}"
    patching.apply(either.plan(), either.pins)
    assert frozen() == [
        f"apache-airflow-core==3.1.6{label}",
        f"apache-airflow-providers-fab==3.3.0{label}",
    ]
    patching.apply(either.plan("OTHER = 3\n"), either.pins)  # the same version with other content
    assert (either.site / "airflow/settings.py").read_text() == "OTHER = 3\n"
    patching.revert(either.python, either.pins)
    assert frozen() == ["apache-airflow-core==3.1.6", "apache-airflow-providers-fab==3.3.0"]
    assert not [*either.site.glob("apache_airflow*/direct_url.json")]
