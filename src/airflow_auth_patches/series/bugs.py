"""The bugs that the series is about: ``bugs.toml``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from packaging.specifiers import SpecifierSet

from airflow_auth_patches.util import toml


class Severity(Enum):
    """What a bug does to users, the most severe first: see docs/series.md."""

    OUTAGE = "outage"
    HANG = "hang"
    SECURITY = "security"
    ERROR = "error"
    NONE = "none"


@dataclass(frozen=True)
class Bug:
    """
    A bug of ``bugs.toml``.

    :param sees: the symptom, as a user sees it.
    :param severity: what it does to users of a stock release.
    :param reproducer: the node id of the test that shows whether a release has the bug; ``None`` if there is
        no such test yet.
    :param known_open: the planned patch, if no patch cures the bug yet.
    :param absent: a regular expression for the failure of the reproducer on a release without the code that
        fails.
    :param open_on: the versions for which no patch is planned, each with the reason.
    :param needs: the slugs of the patches of the other distribution that the cure also requires.
    :param shows_with: the versions of the other distribution with which the bug shows.
    :param avoided_by: the slugs of patches of the same distribution with which users do not meet the bug.
    :param page: the name of its page in ``docs/bugs``, without the suffix.
    """

    slug: str
    title: str
    sees: str
    severity: Severity
    links: tuple[str, ...]
    reproducer: str | None
    known_open: str | None
    absent: str | None = None
    open_on: tuple[tuple[SpecifierSet, str], ...] = ()
    needs: tuple[str, ...] = ()
    shows_with: SpecifierSet = field(default_factory=SpecifierSet)
    avoided_by: tuple[str, ...] = ()
    page: str = ""


def read_bugs(folder: Path) -> dict[str, Bug]:
    """
    Read ``bugs.toml``.

    :return: ``{slug: bug}``.
    :raises Problem: if the file is missing or broken.
    """
    path = folder / "bugs.toml"
    with toml.opened(path) as raw:
        return {
            slug: Bug(
                slug,
                entry["title"],
                entry["sees"],
                Severity(entry["severity"]),
                tuple(entry["links"]),
                entry.get("reproducer"),
                entry.get("known-open"),
                entry.get("absent"),
                tuple(
                    (SpecifierSet(each["releases"], prereleases=True), each["why"])
                    for each in entry.get("open", ())
                ),
                tuple(entry.get("needs", ())),
                SpecifierSet(entry.get("shows-with", ""), prereleases=True),
                tuple(entry.get("avoided-by", ())),
                entry.get("page", ""),
            )
            for slug, entry in raw.items()
        }
