"""What the OpenAPI document says of the routes besides what FastAPI reads from them: problems and JSON bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.contract.names import ErrorCode
from app.problems import STATUS, UNPROCESSABLE, ProblemDocument

_COMPONENT: Final = "#/components/schemas/{model}"

#: What any request may be answered with.
_ALWAYS: Final = (ErrorCode.INVALID_REQUEST, ErrorCode.HOST_NOT_ALLOWED)
#: What a route that reads the store may answer.
STORE: Final = (ErrorCode.STORE_UNAVAILABLE,)
#: What a route that changes something may answer.
CHANGES: Final = (*STORE, ErrorCode.ORIGIN_NOT_ALLOWED)
#: What a route that takes an `Idempotency-Key` may answer.
ONCE: Final = (ErrorCode.IDEMPOTENCY_IN_PROGRESS, ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.DELETED)
#: What a route with a JSON body may answer.
BODY: Final = (
    ErrorCode.ORIGIN_NOT_ALLOWED,
    ErrorCode.INVALID_JSON,
    ErrorCode.BODY_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.REQUEST_TIMEOUT,
    ErrorCode.OVERLOADED,
)

#: Where what an operation creates leads: (path, status) to (method, path, name of the parameter, place in the answer).
_LINKS: Final[dict[tuple[str, str], tuple[tuple[str, str, str, str], ...]]] = {
    ("/contexts", "202"): (
        ("get", "/contexts/{ref}", "ref", "/context/id"),
        ("get", "/contexts/{ref}/examples", "ref", "/context/id"),
        ("patch", "/contexts/{ref}", "ref", "/context/id"),
        ("delete", "/contexts/{ref}", "ref", "/context/id"),
        ("get", "/jobs/{job_id}", "job_id", "/job/id"),
        ("get", "/jobs/{job_id}/events", "job_id", "/job/id"),
        ("post", "/jobs/{job_id}/cancel", "job_id", "/job/id"),
        ("delete", "/jobs/{job_id}", "job_id", "/job/id"),
    ),
    ("/contexts/import", "201"): (
        ("get", "/contexts/{ref}", "ref", "/context/id"),
        ("get", "/contexts/{ref}/examples", "ref", "/context/id"),
        ("get", "/contexts/{ref}/adapter", "ref", "/context/id"),
        ("delete", "/contexts/{ref}", "ref", "/context/id"),
    ),
    ("/batches", "202"): (
        ("get", "/batches/{batch_id}", "batch_id", "/id"),
        ("get", "/batches/{batch_id}/results", "batch_id", "/id"),
        ("get", "/batches/{batch_id}/errors", "batch_id", "/id"),
        ("get", "/jobs/{job_id}/events", "job_id", "/id"),
        ("post", "/jobs/{job_id}/cancel", "job_id", "/id"),
    ),
    ("/keys", "201"): (("delete", "/keys/{key_id}", "key_id", "/id"),),
    ("/webhooks", "201"): (("delete", "/webhooks/{webhook_id}", "webhook_id", "/id"),),
}

Responses = dict[int | str, dict[str, Any]]


def problems(*codes: ErrorCode) -> Responses:
    """OpenAPI responses for the given codes, and for those that any route may give."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, *_ALWAYS)):
        by_status.setdefault(STATUS.get(code, UNPROCESSABLE), []).append(code)
    return {
        status: {
            "description": "Problem: " + ", ".join(names),
            "content": {"application/problem+json": {"schema": {"$ref": _COMPONENT.format(model="ProblemDocument")}}},
        }
        for status, names in by_status.items()
    }


def with_problems(responses: Responses, *codes: ErrorCode) -> Responses:
    """``responses`` with further codes that the operation may answer."""
    merged = dict(responses)
    for status, problem in problems(*codes).items():
        if (given := merged.get(status)) is None:
            merged[status] = problem
        else:
            _, _, added = problem["description"].partition(": ")
            known = re.split(r"[:,] ", given["description"])
            new = [code for code in added.split(", ") if code not in known]
            merged[status] = {**given, "description": ", ".join([given["description"], *new])}
    return merged


def request_body(model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body of an operation, for its ``openapi_extra``; `add_schemas` adds the component it refers to."""
    schema = {"$ref": _COMPONENT.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def add_schemas(components: dict[str, Any], bodies: Sequence[type[BaseModel]]) -> None:
    """Add the problem document and the bodies of requests to the component schemas of a description.

    A model whose schema differs between requests and answers has ``-Input`` behind its name in requests.
    """
    models: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in bodies]
    _, schema = models_json_schema([(ProblemDocument, "serialization"), *models], ref_template=_COMPONENT)
    found: dict[str, Any] = schema["$defs"]
    clashing = [name for name, one in found.items() if components.get(name, one) != one]
    text = json.dumps({f"{name}-Input" if name in clashing else name: one for name, one in found.items()})
    for name in clashing:
        reference = _COMPONENT.format(model=name)
        text = text.replace(f'"{reference}"', f'"{reference}-Input"')
    components.update(json.loads(text))


def describe_doors(paths: dict[str, Any]) -> None:
    """Let operations with the tag ``doors`` answer failures as their vendors do: as JSON, a problem's fields beside."""
    error = {"type": "object", "description": "the vendor's error, beside the fields of a problem document"}
    operations = (one for item in paths.values() for one in item.values() if "doors" in one.get("tags", ()))
    for operation in operations:
        for response in operation["responses"].values():
            if response.get("content", {}).pop("application/problem+json", None):
                response["content"]["application/json"] = {"schema": error}


def add_links(paths: dict[str, Any]) -> None:
    """Say where what an operation creates leads."""
    for (path, status), leads in _LINKS.items():
        links = paths[path]["post"]["responses"][status].setdefault("links", {})
        for method, target, name, place in leads:
            operation = paths[target][method]["operationId"]
            links[operation] = {"operationId": operation, "parameters": {name: f"$response.body#{place}"}}
