"""The scenario `memory-growth`, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.scenarios import memory_growth

MIB = memory_growth.MIB


class Growing:
    """
    A server whose memory grows with each request.

    :param each: bytes of growth per request.
    :param outcomes: the outcomes of the requests, by path.
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
        outcomes = [self.outcomes.get(request.path, str(request.expect)) for request in requests]
        return Result([Answer(*pair, 1.0) for pair in zip(requests, outcomes, strict=True)], 1.0)


def observe(monkeypatch: pytest.MonkeyPatch, each: float, **outcomes: str) -> Any:
    server = Growing(each, {f"/auth/fab/v1/{name}": outcome for name, outcome in outcomes.items()})
    monkeypatch.setattr(memory_growth, "send", server.send)
    return memory_growth.run(server)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mib", "failed"), [(0, False), (2, False), (2.1, True), (9, True)])
def test_fails_only_above_maximum_growth(monkeypatch: pytest.MonkeyPatch, mib: float, failed: bool) -> None:
    seen = observe(monkeypatch, mib * MIB / memory_growth.REQUESTS)
    assert seen.failed is failed
    assert (
        seen.sees
        == f"tokens: +{mib:.1f} MiB in 300 requests; users and roles: +{mib:.1f} MiB in 300 requests"
    )


def test_stops_early_at_large_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = observe(monkeypatch, 0.8 * MIB)
    assert seen.failed
    assert seen.sees.startswith("tokens: +16.0 MiB in 20 requests, the rest was not sent; users and roles: ")
    assert [(each.rounds, each.planned) for each in seen.measurements] == [(2, 30), (2, 30)]


def test_unexpected_status_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = observe(monkeypatch, 0, users="500")
    assert seen.failed
    assert seen.sees.endswith("; users and roles: 150 of 300 fail (150 x 500)")


def test_stops_when_server_does_not_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = observe(monkeypatch, 0, roles=NO_ANSWER)
    assert seen.failed
    assert "users and roles: +0.0 MiB in 10 requests, the rest was not sent" in seen.sees
