"""An API server that somebody started, by its address: asked for health and tokens, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from airflow_auth_patches.demo.preparation import USER
from airflow_auth_patches.util.errors import Exit, Problem


class Reached:
    """
    An API server that answers at an address.

    :param url: the address, without a slash at its end.
    :param pair: what its releases are called, core first: ``3.1.6+3.3.0``.
    :param user: the ``username`` and ``password`` of an administrator.
    """

    def __init__(self, url: str, pair: str, user: Mapping[str, str] = USER) -> None:
        self.url = url
        self.pair = pair
        self.user = user
        self._client = httpx.Client(
            base_url=url, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def close(self) -> None:
        """Ask nothing more."""
        self._client.close()

    def healthy(self, timeout: float = 10) -> bool:
        """
        Tell whether its health page answers.

        :param timeout: seconds to wait for it.
        """
        try:
            answer = self._client.get("/api/v2/monitor/health", timeout=timeout)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def token(self) -> str:
        """
        Ask for a token as a user does.

        :raises Problem: when it is refused; USAGE where the user or the password is wrong.
        """
        try:
            answer = self._client.post("/auth/token", json=self.user, timeout=60)
        except httpx.TransportError as error:
            raise Problem(
                f"The API server of {self.pair} gave no token: {error!r}.", "", Exit.FAILED
            ) from error
        if answer.status_code != 201:
            raise Problem(
                f"The API server of {self.pair} answered {answer.status_code} to a lone request for a token.",
                "",
                Exit.USAGE if answer.status_code == 401 else Exit.FAILED,
            )
        token: str = answer.json()["access_token"]
        return token

    def log_size(self) -> int:
        """Tell how long the log is now, in bytes: a mark for ``log_since``; 0 where it cannot be read."""
        return 0

    def log_since(self, mark: int = 0) -> str:
        """
        Read what it logged after a mark; nothing where the log cannot be read.

        :param mark: what ``log_size`` said.
        """
        return ""
