"""A client for a running API server: requests its health and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import httpx

from airflow_auth_patches.demo.preparation import USER
from airflow_auth_patches.util.errors import Exit, Problem


class Database(Protocol):
    """The database of a server, as far as a scenario disturbs it."""

    def kill_connections(self, name: str) -> int:
        """Close every connection to a database on its side, and return their number."""


class Reached:
    """
    A running API server.

    :param url: the address, without a slash at the end.
    :param pair: its releases, core first: ``3.1.6+3.3.0``.
    :param user: the ``username`` and ``password`` of an administrator.
    :param database: its database, for scenarios that disturb it.
    """

    database: Database
    name = ""

    def __init__(
        self, url: str, pair: str, user: Mapping[str, str] = USER, database: Database | None = None
    ) -> None:
        self.url = url
        self.pair = pair
        self.user = user
        if database is not None:
            self.database = database
        self._client = httpx.Client(
            base_url=url, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def close(self) -> None:
        """Close the HTTP client."""
        self._client.close()

    def healthy(self, timeout: float = 10) -> bool:
        """
        Check whether the health endpoint returns 200.

        :param timeout: seconds to wait for the response.
        """
        try:
            answer = self._client.get("/api/v2/monitor/health", timeout=timeout)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def token(self) -> str:
        """
        Return a new token of the user.

        :raises Problem: when the request fails; with ``Exit.USAGE`` if the user or the password is wrong.
        """
        try:
            answer = self._client.post("/auth/token", json=self.user, timeout=60)
        except httpx.TransportError as error:
            raise Problem(
                f"The API server of {self.pair} returned no token: {error!r}.",
                "Check that the server is running.",
                Exit.FAILED,
            ) from error
        if answer.status_code != 201:
            raise Problem(
                f"The API server of {self.pair} returned {answer.status_code} to a single token request.",
                "Check the user, the password and the log of the server.",
                Exit.USAGE if answer.status_code == 401 else Exit.FAILED,
            )
        token: str = answer.json()["access_token"]
        return token

    def tokens(self, count: int) -> list[str]:
        """Return new tokens of the user, one login each."""
        return [self.token() for _ in range(count)]

    def reset(self, *probes: str) -> None:
        """Reset the counts of in-process probes; without effect if the server has none."""

    def log_size(self) -> int:
        """Return the size of the log in bytes, for ``log_since``; 0 if the log cannot be read."""
        return 0

    def log_since(self, mark: int = 0) -> str:
        """
        Return the log after a position; empty if the log cannot be read.

        :param mark: the position, a value of ``log_size``.
        """
        return ""
