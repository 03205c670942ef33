"""When a server counts as one that grows, as far as no server is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.scenarios import memory_growth as room

MIB = room.MIB


class Growing:
    """
    A server in whose memory each request leaves something.

    :param each: bytes that one leaves.
    :param outcomes: what the requests are answered with, by their path.
    """

    url = "http://somewhere"

    def __init__(self, each: float, outcomes: dict[str, str]) -> None:
        self.each = each
        self.outcomes = outcomes
        self.answered = 0

    def token(self) -> str:
        return "a token"

    def memory(self) -> int:
        return 200 * MIB + round(self.each * self.answered)

    def send(self, url: str, requests: Sequence[Request], *, deadline: float, concurrency: int) -> Result:
        assert concurrency == 1
        self.answered += len(requests)
        told = [self.outcomes.get(request.path, str(request.expect)) for request in requests]
        return Result([Answer(*pair, 1.0) for pair in zip(requests, told, strict=True)], 1.0)


def observe(monkeypatch: pytest.MonkeyPatch, each: float, **outcomes: str) -> Any:
    server = Growing(each, {f"/auth/fab/v1/{name}": outcome for name, outcome in outcomes.items()})
    monkeypatch.setattr(room, "send", server.send)
    return room.run(server)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mib", "failed"), [(0, False), (2, False), (2.1, True), (9, True)])
def test_it_may_grow_by_so_much(monkeypatch: pytest.MonkeyPatch, mib: float, failed: bool) -> None:
    seen = observe(monkeypatch, mib * MIB / room.REQUESTS)
    assert seen.failed is failed
    assert (
        seen.sees
        == f"tokens: +{mib:.1f} MiB in 300 requests; users and roles: +{mib:.1f} MiB in 300 requests"
    )


def test_the_rest_is_not_sent_where_it_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = observe(monkeypatch, 0.8 * MIB)
    assert seen.failed
    assert seen.sees.startswith("tokens: +16.0 MiB in 20 requests, the rest was not sent; users and roles: ")
    assert [(each.rounds, each.planned) for each in seen.measurements] == [(2, 30), (2, 30)]


def test_what_is_answered_otherwise_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = observe(monkeypatch, 0, users="500")
    assert seen.failed
    assert seen.sees.endswith("; users and roles: 150 of 300 fail (150 x 500)")


def test_ends_where_nothing_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = observe(monkeypatch, 0, roles=NO_ANSWER)
    assert seen.failed
    assert "users and roles: +0.0 MiB in 10 requests, the rest was not sent" in seen.sees
