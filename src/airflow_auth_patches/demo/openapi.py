"""The routes of a server, as its own OpenAPI document tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from airflow_auth_patches.util.errors import Exit, Problem

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """
    One method of one route.

    :param method: the method, in capitals.
    :param path: the template of its path: ``/api/v2/pools/{pool_name}``.
    :param needs: each parameter that a request must have: ``path``, ``query`` or ``header``, and its name.
    """

    method: str
    path: str
    needs: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations(document: Mapping[str, Any], prefix: str = "/api/v2/") -> list[Operation]:
    """
    List what a server can be asked, in the order of its document.

    :param document: its OpenAPI document.
    :param prefix: how the paths begin that are of interest.
    """
    return [
        Operation(method.upper(), path, _needs([*each.get("parameters", ()), *told.get("parameters", ())]))
        for path, each in document["paths"].items()
        if path.startswith(prefix)
        for method, told in each.items()
        if method in METHODS
    ]


def _needs(parameters: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((each["in"], each["name"]) for each in parameters if each.get("required"))


@dataclass(frozen=True)
class Address:
    """
    Where a request goes, and the headers that say more.

    :param path: path and query.
    """

    path: str
    headers: Mapping[str, str]


def unknown(known: Iterable[str], found: Sequence[Operation]) -> list[str]:
    """
    Name the parameters that nobody knows a value for.

    :param known: names of parameters.
    :param found: the operations that are to be asked.
    :return: a phrase for each, with the first operation that needs it.
    """
    names = set(known)
    first: dict[str, str] = {}
    for operation in found:
        for place, name in operation.needs:
            if name not in names:
                first.setdefault(f"the {place} parameter {name}", str(operation))
    return [f"{name} of {operation}" for name, operation in first.items()]


def address(operation: Operation, values: Mapping[str, str]) -> Address:
    """
    Fill in the parameters of an operation.

    :param operation: what is asked.
    :param values: a value for each name of a parameter.
    :raises Problem: when one is missing.
    """
    if lacking := unknown(values, [operation]):
        raise Problem(f"There is no value for {lacking[0]}.", "", Exit.FAILED)
    path = operation.path
    query, headers = {}, {}
    for place, name in operation.needs:
        if place == "path":
            path = path.replace(f"{{{name}}}", quote(values[name], safe=""))
        elif place == "query":
            query[name] = values[name]
        else:
            headers[name] = values[name]
    return Address(f"{path}?{urlencode(query)}" if query else path, headers)
