"""What a scenario is, and the rounds of requests that scenarios share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Kind, Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.server import Server

#: The four patches that cure what was reported, and what the last of them requires, on FAB before 3.7.0
#: ``user-session`` too.
MINIMAL = (
    "session-cleanup",
    "auth-manager-singleton",
    "appbuilder-init-lock",
    "revoked-token-leeway",
    "revoked-token-off-loop",
    "revoked-token-cache",
    "user-session",
)


class Build(str, Enum):
    """What a pair of releases is installed with."""

    STOCK = "stock"  #: no patch
    MINIMAL = "minimal"  #: `MINIMAL`, as far as they serve the pair
    PLUGIN = "plugin"  #: no patch; the plugin that limits concurrent requests is in the plugins folder
    PATCHED = "patched"  #: the whole series


@dataclass(frozen=True)
class Scenario:
    """
    Something that users do to a server, the same on stock and patched releases.

    :param name: what to call it on the command line.
    :param about: what is done, with the settings and deadlines that matter, for people.
    :param bugs: slugs of the bugs it shows, as ``bugs.toml`` has them.
    :param pairs: the pairs of releases to run it on, core first: ``3.1.6+3.3.0``.
    :param run: does it on a server that answers, and tells what was seen.
    :param settings: what the server is booted with.
    :param databases: the products to run it on.
    :param minimal: whether to run it with the minimal patches alone too.
    :param plugin: whether to run it on stock releases with the plugin that limits concurrent requests too.
    :param run_patched: does it on the server with all patches, where that takes more than ``run``.
    :param alone: whether to boot each server when the one before is stopped, as a load test of the whole
        machine needs it, instead of all at the same time.
    :param compare_with_minimal: looks at what was seen with the minimal patches and with all, in this order,
        and tells the latter anew.
    :param kind: whether stock must fail.
    :param note: a sentence on what is done otherwise than one would expect, and why.
    """

    name: str
    about: str
    bugs: tuple[str, ...]
    pairs: tuple[str, ...]
    run: Callable[[Server], Observation]
    settings: Settings = field(default_factory=Settings)
    databases: tuple[str, ...] = ("PostgreSQL",)
    minimal: bool = False
    plugin: bool = False
    run_patched: Callable[[Server], Observation] | None = None
    alone: bool = False
    compare_with_minimal: Callable[[Observation, Observation], Observation] | None = None
    kind: Kind = Kind.BUG
    note: str = ""

    @property
    def builds(self) -> tuple[Build, ...]:
        """What it is run with, in this order."""
        optional = {Build.MINIMAL: self.minimal, Build.PLUGIN: self.plugin}
        return tuple(build for build in Build if optional.get(build, True))

    def settings_of(self, build: Build) -> Settings:
        """Return what the server of a build is booted with."""
        return replace(self.settings, admission_plugin=True) if build is Build.PLUGIN else self.settings

    def observe(self, build: Build, server: Server) -> Observation:
        """Run it on the server of a build."""
        if build is Build.PATCHED and self.run_patched is not None:
            return self.run_patched(server)
        return self.run(server)


def rounds(
    server: Reached, name: str, requests: Sequence[Request], *, count: int, deadline: float
) -> Measurement:
    """
    Send the same requests together, time after time.

    Ends at the first round that leaves a request without an answer: the server hangs, and more rounds
    would tell of nothing but that.

    :param server: where to.
    :param name: what to call it.
    :param requests: one round.
    :param count: how many rounds.
    :param deadline: seconds for each.
    """
    total = Result([], 0)
    done = 0
    while done < count and not total.unfinished:
        total += send(server.url, requests, deadline=deadline)
        done += 1
    return Measurement(name, total, deadline, done, count)
