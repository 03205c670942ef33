"""Read the routes of a server from its OpenAPI document."""

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

    :param method: the method, in upper case.
    :param path: the template of the path: ``/api/v2/pools/{pool_name}``.
    :param needs: the required parameters, as tuples of ``path``, ``query`` or ``header``, and the name.
    """

    method: str
    path: str
    needs: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations(document: Mapping[str, Any], prefix: str = "/api/v2/") -> list[Operation]:
    """
    Return the operations of a server, in the order of its document.

    :param document: the OpenAPI document.
    :param prefix: the prefix of the returned paths.
    """
    return [
        Operation(
            method.upper(), path, _needs([*each.get("parameters", ()), *operation.get("parameters", ())])
        )
        for path, each in document["paths"].items()
        if path.startswith(prefix)
        for method, operation in each.items()
        if method in METHODS
    ]


def _needs(parameters: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((each["in"], each["name"]) for each in parameters if each.get("required"))


@dataclass(frozen=True)
class Address:
    """
    The address of a request.

    :param path: path and query.
    :param headers: the required headers.
    """

    path: str
    headers: Mapping[str, str]


def unknown(known: Iterable[str], found: Sequence[Operation]) -> list[str]:
    """
    Return the required parameters without a known value.

    :param known: names of the parameters with a value.
    :param found: the operations to request.
    :return: one phrase per parameter, with the first operation that needs it.
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
    Return the address of an operation, with values for its parameters.

    :param operation: the operation.
    :param values: a value for each parameter name.
    :raises Problem: when a value is missing.
    """
    if missing := unknown(values, [operation]):
        raise Problem(f"There is no value for {missing[0]}.", "Add one in demo/sweep.py.", Exit.FAILED)
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
