"""Build the Airflow plugin that limits concurrent requests, from the patch that does the same in core."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from airflow_auth_patches.installation.installed import Installation, look
from airflow_auth_patches.releases.releases import CORE, Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Exit, Problem

#: The patch, the module that it adds to core, and the name of the plugin's file.
SLUG = "request-admission"
MODULE = "airflow-core/src/airflow/api_fastapi/common/request_admission.py"
NAME = "request_admission_plugin.py"

HEAD = '''\
"""
Limit the requests that an Airflow API server works on at a time to what its connection pool can serve.

A plugin for Airflow 3.1 and later that needs no patch. Its code is that of the patch request-admission of
airflow-auth-patches.

Install: put this file into the plugins folder of each API server and restart the servers.
Configure: [api] max_concurrent_requests, or AIRFLOW__API__MAX_CONCURRENT_REQUESTS; 0 turns the limit off.
Remove: delete this file and restart the API servers.
"""
'''

#: The import of the metrics in core 3.3, and an import that also works in core 3.2 and 3.1.
STATS = "from airflow._shared.observability.metrics import stats\n"
ANY_STATS = """\
try:
    from airflow._shared.observability.metrics import stats
except ImportError:  # Airflow 3.1
    from airflow.stats import Stats as stats
else:
    if not hasattr(stats, "incr"):  # Airflow 3.2
        stats = stats.Stats
"""

TAIL = '''

_other = sys.modules.setdefault("airflow_auth_patches_request_admission", sys.modules[__name__])
if getattr(_other, "__file__", __file__) != __file__:
    raise RuntimeError(f"The request admission plugin is installed twice: remove {__file__}")
if importlib.util.find_spec("airflow.api_fastapi.common.request_admission"):
    raise RuntimeError(f"This Airflow limits its requests itself (request-admission): remove {__file__}")


class RequestAdmissionPlugin(AirflowPlugin):
    """Add the middleware to the API server."""

    name = "request_admission"

    @property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the middleware; a wrong value in the configuration stops the API server as it starts."""
        if not (limits := get_limits()):
            return []
        return [{"name": self.name, "middleware": RequestAdmissionMiddleware, "kwargs": limits}]
'''


def source(series: Series) -> str:
    """
    Return the text of the plugin.

    :param series: the series. The plugin uses the newest form of its patch ``request-admission``.
    :raises Problem: if the series does not have the patch.
    """
    patch = next((p for p in series.patches if p.slug == SLUG and p.variant is None), None)
    if patch is None or MODULE not in patch.edits:
        raise Problem(f"The series has no patch {SLUG} that adds {MODULE}.", "Restore the patch.")
    code = b"".join(line for hunk in patch.edits[MODULE] for line in hunk.new).decode()
    return from_module(code)


def check(python: Path | None, pins: Pins) -> Installation | None:
    """
    Check that the plugin is for an installed Airflow.

    :param python: its interpreter. If it is ``None``, the environment of this tool is checked, but only if it
        has Airflow.
    :param pins: the pinned releases.
    :return: the Airflow that was checked, or ``None``.
    :raises Problem: if core is not installed, or already has the patch.
    """
    try:
        installation = look(python or Path(sys.executable), pins)
    except Problem:
        if python is None:
            return None
        raise
    core = next((each for each in installation.found if each.distribution is CORE), None)
    if core is None or core.out_of_scope:
        raise Problem(
            f"{python} has no {CORE.name} {CORE.oldest} or later.", "Name the interpreter of your API server."
        )
    if SLUG in core.slugs:
        raise Problem(
            f"{CORE.name} {core.version} has the patch {SLUG}, which does the same.",
            "Use the patch without the plugin, which would not load.",
        )
    return installation


def from_module(code: str) -> str:
    """
    Return the text of the plugin for the code of the module.

    :param code: the code of the module that the patch adds to core.
    :raises Problem: if the module does not have the lines that the plugin replaces.
    """
    licence, found, rest = code.partition('"""')
    _, _, body = rest.partition('"""\n')
    # only core uses this function, which adds the middleware
    body, functions = re.subn(r"def init_request_admission\(.*?\n\n\n", "", body, flags=re.DOTALL)
    body, checks = re.subn(
        r"if TYPE_CHECKING:\n    from fastapi import FastAPI\n", "if TYPE_CHECKING:\n", body
    )
    last = "from airflow.exceptions import AirflowConfigException\n"
    replaced = {
        STATS: "",
        "import asyncio\n": "import asyncio\nimport importlib.util\n",
        "import logging\n": "import logging\nimport sys\n",
        last: f"{last}from airflow.plugins_manager import AirflowPlugin\n\n{ANY_STATS}",
    }
    for old, new in replaced.items():
        if body.count(old) != 1:
            raise Problem(
                f"{MODULE} does not have the line {old.strip()!r} exactly once.", "Correct plugin.py."
            )
        body = body.replace(old, new)
    if not found or functions != 1 or checks != 1:
        raise Problem(f"{MODULE} does not have the structure that plugin.py expects.", "Correct plugin.py.")
    return f"{licence}{HEAD}{body}{TAIL}"


def write(text: str, folder: Path) -> Path:
    """
    Write the plugin into a plugins folder, atomically.

    :param text: the text of the plugin.
    :param folder: the plugins folder, which must exist.
    :return: the path of the file.
    :raises Problem: if the folder is missing, cannot be written, or has another copy of the plugin.
    """
    if not folder.is_dir():
        raise Problem(
            f"{folder} is not a folder.",
            "Name the plugins folder: `airflow config get-value core plugins_folder`.",
            Exit.USAGE,
        )
    target = folder / NAME
    for other in sorted(folder.rglob("*.py")):
        if other != target and "class RequestAdmissionPlugin(" in other.read_text("utf-8", "replace"):
            raise Problem(f"{other} is the same plugin with another name.", "Remove it first.")
    partial = target.with_suffix(".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Problem(
            f"{target} cannot be written: {error.strerror}.", "Check the permissions of the folder."
        ) from error
    return target
