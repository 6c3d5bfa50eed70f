"""Query parameters: those that a route does not know are refused, and so is one that is given twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.contract.names import ErrorCode
from app.errors import DomainError

_DEEP_OBJECT: Final = re.compile(r"([a-z_]+)\[([^\[\]]+)\]")


def deep_object(name: str, description: str) -> dict[str, Any]:
    """For the ``openapi_extra`` of an operation: a parameter ``name[key]=value``, given any number of times."""
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    parameter = {"name": name, "in": "query", "style": "deepObject", "explode": True, "required": False}
    return {"parameters": [{**parameter, "description": description, "schema": schema}]}


def deep_values(request: Request, name: str) -> dict[str, str]:
    """What the request gives for the parameter that `deep_object` describes."""
    matches = ((_DEEP_OBJECT.fullmatch(key), value) for key, value in request.query_params.items())
    return {match[2]: value for match, value in matches if match and match[1] == name}


async def only_known_parameters(request: Request) -> None:
    """Dependency of every route: raises `DomainError` for a query parameter that the route does not have."""
    if not request.scope["query_string"]:
        return
    route: APIRoute = request.scope["route"]
    deep = {parameter["name"] for parameter in (route.openapi_extra or {}).get("parameters", ())}
    known = set(_names(route.dependant))
    given = [key for key, _ in request.query_params.multi_items()]
    for key in given:
        match = _DEEP_OBJECT.fullmatch(key)
        if key not in known and not (match and match[1] in deep):
            raise DomainError(ErrorCode.INVALID_REQUEST, "there is no such query parameter here", _pointer(key))
        if given.count(key) > 1:
            raise DomainError(ErrorCode.INVALID_REQUEST, "the query parameter is given more than once", _pointer(key))


def _names(dependant: Dependant) -> Iterator[str]:
    yield from (parameter.alias for parameter in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _names(inner)


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")[:199]
