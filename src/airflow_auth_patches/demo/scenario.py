"""The class `Scenario`, and helpers that repeat requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from airflow_auth_patches.demo.load import Request, Result, send
from airflow_auth_patches.demo.outcomes import Kind, Measurement, Observation
from airflow_auth_patches.demo.preparation import Settings
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.server import Server

#: The patches that cure the reported bugs, and the patches that they require; on FAB before 3.7.0 also
#: ``user-session``.
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
    """The patches or plugin that a pair of releases is installed with."""

    STOCK = "stock"  #: no patch
    MINIMAL = "minimal"  #: the patches of `MINIMAL` that serve the pair
    PLUGIN = "plugin"  #: no patch, but the plugin that limits concurrent requests
    PATCHED = "patched"  #: all patches of the series


@dataclass(frozen=True)
class Scenario:
    """
    A test of a running server. It is the same on stock and patched releases.

    :param name: the name on the command line.
    :param about: a description, with the important settings and deadlines.
    :param bugs: slugs of the bugs that it shows, from ``bugs.toml``.
    :param pairs: the pairs of releases to run it on, core first: ``3.1.6+3.3.0``.
    :param run: runs the scenario on a newly booted server and returns the observation.
    :param settings: the settings of the server.
    :param databases: the database products to run it on.
    :param minimal: whether to also run it with only the minimal patches.
    :param plugin: whether to also run it on stock releases with the plugin that limits concurrent requests.
    :param run_patched: runs the scenario on the server with all patches, if that differs from ``run``.
    :param alone: whether to boot only one server at a time, for a load test of the whole machine.
    :param compare_with_minimal: returns the observation with all patches, from the observations with the
        minimal patches and with all patches.
    :param kind: whether stock must fail.
    :param note: a sentence that explains an unusual detail.
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
        """The builds to run it with, in this order."""
        optional = {Build.MINIMAL: self.minimal, Build.PLUGIN: self.plugin}
        return tuple(build for build in Build if optional.get(build, True))

    def settings_of(self, build: Build) -> Settings:
        """Return the settings of the server of a build."""
        return replace(self.settings, admission_plugin=True) if build is Build.PLUGIN else self.settings

    def observe(self, build: Build, server: Server) -> Observation:
        """Run the scenario on the server of a build."""
        if build is Build.PATCHED and self.run_patched is not None:
            return self.run_patched(server)
        return self.run(server)


class Tally:
    """
    The requests of a scenario that sends them in turn with other actions, by measurement.

    :param url: the server.
    :param deadline: seconds for each call of `send`.
    :param rounds: the number of rounds.
    :param names: the names of the measurements, in their order.
    """

    def __init__(self, url: str, deadline: float, rounds: int, *names: str) -> None:
        self._url = url
        self._deadline = deadline
        self._rounds = rounds
        self._results = {name: Result([], 0) for name in names}

    def send(self, name: str, request: Request, url: str = "") -> None:
        """
        Send a request, and add the result to a measurement.

        :param name: the name of the measurement.
        :param request: the request.
        :param url: another server to send it to.
        """
        self._results[name] += send(url or self._url, [request], deadline=self._deadline)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The measurements."""
        return tuple(
            Measurement(name, result, self._deadline, self._rounds, self._rounds)
            for name, result in self._results.items()
        )


def rounds(
    server: Reached, name: str, requests: Sequence[Request], *, count: int, deadline: float
) -> Measurement:
    """
    Send the same concurrent requests repeatedly.

    Stops after the first round in which a request gets no response, because the server hangs then.

    :param server: the server.
    :param name: the name of the measurement.
    :param requests: the requests of one round.
    :param count: the number of rounds.
    :param deadline: seconds for each round.
    """
    total = Result([], 0)
    done = 0
    while done < count and not total.unfinished:
        total += send(server.url, requests, deadline=deadline)
        done += 1
    return Measurement(name, total, deadline, done, count)
