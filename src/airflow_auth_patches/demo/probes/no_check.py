"""
Disable the revocation check of an API server, to measure the cost of the check.

This plugin is for stock and patched releases. ``BaseAuthManager.get_user_from_token`` checks only tokens with
an id, so this plugin removes ``jti`` from the claims that its validator returns. Logout still revokes a
token, because it uses the unchanged claims of the validator.
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager


class WithoutId:
    """
    A token validator that returns claims without an id.

    :param validator: the wrapped validator.
    """

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._validator, name)

    async def avalidated_claims(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the validated claims of a token, without its id."""
        claims = await self._validator.avalidated_claims(*args, **kwargs)
        return {name: claim for name, claim in claims.items() if name != "jti"}


def _without_id(cls: type[Any]) -> WithoutId:
    return WithoutId(_make(cls))


_make = BaseAuthManager._get_token_validator.__func__
BaseAuthManager._get_token_validator = classmethod(_without_id)
