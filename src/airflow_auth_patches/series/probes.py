"""The probes that show on a running server whether it has a patch: ``probes.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.show import markdown_table

FILE = "probes.toml"
#: The kinds of probes. `contribute/probes.py` has a function for each.
KINDS = (
    *("locked-table", "full-pool", "browser-sessions", "logout-leeway"),
    *("killed-connection", "killed-page", "token-race"),
)


@dataclass(frozen=True)
class Probe:
    """
    The probe of a patch, or the reason why it has none.

    :param kind: one of `KINDS`; empty if there is no probe.
    :param none: why there is no probe.
    :param table: the table to lock.
    :param request: the request to send meanwhile, as in ``GET /api/v2/pools``.
    :param token: whether to send a token.
    :param answered: whether the request is answered while the table is locked. If not, it waits alone.
    :param settings: the environment variables that the server needs.
    :param needs: other patches that the server needs to pass.
    """

    kind: str = ""
    none: str = ""
    table: str = ""
    request: str = ""
    token: bool = True
    answered: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def variables(self) -> list[str]:
        """The settings, as in ``NAME=value``."""
        return [f"{name}={value}" for name, value in self.settings.items()]


def load(folder: Path) -> dict[str, Probe]:
    """
    Read ``probes.toml``.

    :return: ``{slug: probe}``.
    :raises Problem: if the file is missing or broken.
    """
    with toml.opened(folder / FILE) as raw:
        found = {}
        for slug, entry in raw.items():
            probe = Probe(**{**entry, "needs": tuple(entry.get("needs", ()))})
            if bool(probe.kind) == bool(probe.none) or probe.kind not in ("", *KINDS):
                raise ValueError(f"{slug} needs either `none` or a `kind`: {', '.join(KINDS)}")
            if probe.kind in KINDS[:2] and not (probe.table and " /" in probe.request):
                raise ValueError(f"{slug} needs `table` and `request`")
            found[slug] = probe
        return found


def required(patch: Patch) -> bool:
    """Check whether a patch must have an entry. It must if it goes upstream: main does not have the fix."""
    told = " ".join(patch.trailers.get("Forwarded", ()))
    return not told.startswith("not-needed") and not patch.applied_upstream


def table(series: Series) -> str:
    """Return the probes as a Markdown table, in series order."""
    rows, known = [], load(series.folder)
    for slug in dict.fromkeys(patch.slug for patch in series.patches):
        if probe := known.get(slug):
            locked = f"`{probe.table}` locked" if probe.table else ""
            told = ", ".join(filter(None, (f"`{probe.request}`" * bool(probe.request), locked)))
            told += ", which must be answered" if probe.answered else ""
            told += "" if probe.token else ", without a token"
            settings = ", ".join(f"`{each}`" for each in probe.variables)
            needs = ", ".join(f"`{name}`" for name in probe.needs)
            rows.append(
                (f"`{slug}`", probe.kind or "none", told or probe.none or "-", settings or "-", needs or "-")
            )
    return markdown_table(("patch", "probe", "request, or reason for none", "settings", "also needs"), rows)
