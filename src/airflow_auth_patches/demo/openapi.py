"""Read the routes of a server from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

METHODS = ("get", "post", "put", "patch", "delete")
#: Where a parameter can be.
PLACES = ("path", "query", "header")


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


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """
    Return the operations of the public API of a server, in the order of its document.

    :param document: the OpenAPI document.
    """
    found = []
    for path, each in document["paths"].items():
        for method, operation in each.items() if path.startswith("/api/v2/") else ():
            if method in METHODS:
                given = [*each.get("parameters", ()), *operation.get("parameters", ())]
                needs = tuple((one["in"], one["name"]) for one in given if one.get("required"))
                found.append(Operation(method.upper(), path, needs))
    return found


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


def address(operation: Operation, values: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """
    Return the address of an operation: its path with the query, and the required headers.

    :param operation: the operation.
    :param values: a value for each of its parameters, see `unknown`.
    """
    given = {
        kind: {name: values[name] for where, name in operation.needs if where == kind} for kind in PLACES
    }
    path = operation.path.format_map({name: quote(value, safe="") for name, value in given["path"].items()})
    return f"{path}?{urlencode(given['query'])}" if given["query"] else path, given["header"]
