"""What a scenario is, and the rounds of requests that scenarios share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from airflow_auth_patches.live.load import Request, Result, send
from airflow_auth_patches.live.outcomes import Kind, Measurement, Observation
from airflow_auth_patches.live.preparation import Settings
from airflow_auth_patches.live.server import Server


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
    :param kind: whether stock must fail.
    :param known_open: slug of the patch that will cure it, while the series lacks it.
    :param note: a sentence on what is done otherwise than one would expect, and why.
    """

    name: str
    about: str
    bugs: tuple[str, ...]
    pairs: tuple[str, ...]
    run: Callable[[Server], Observation]
    settings: Settings = field(default_factory=Settings)
    kind: Kind = Kind.BUG
    known_open: str | None = None
    note: str = ""


def rounds(
    server: Server, name: str, requests: Sequence[Request], *, count: int, deadline: float
) -> Measurement:
    """
    Send the same requests together, time after time.

    Ends at the first round that leaves a request without an answer: the server stands still, and more rounds
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
