"""One call of a route: what to send and how to read the answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from contextune.errors import SourceError, UnexpectedAnswerError

T = TypeVar("T")
Answer_co = TypeVar("Answer_co", covariant=True)
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Reply:
    """A whole answer. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Upload:
    """A body that is made while it is sent. ``chunks`` begins anew each time, if it is ``repeatable``."""

    chunks: Callable[[], Iterator[bytes]]
    content_type: str
    repeatable: bool = True


@dataclass(frozen=True)
class Request:
    """What goes over the wire but for what the connection adds. ``read_seconds`` is how long the answer may take."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Upload | None = None
    read_seconds: float | None = None


@dataclass(frozen=True)
class Call(Generic[Answer_co]):
    """A route with its arguments. One that ``creates`` is sent with an idempotency key, the same at each attempt."""

    request: Request
    read: Callable[[Reply], Answer_co]
    creates: bool = False
    idempotency_key: str | None = None
    #: A status that is an answer here although it is none elsewhere.
    also_status: int | None = None
    #: A list that comes whole: it takes neither ``limit`` nor ``after``.
    whole: bool = False


def path(*parts: str | int) -> str:
    """The path of these segments, each of them quoted."""
    return "/" + "/".join(quote(str(part), safe="@") for part in parts)


def query(**arguments: Any) -> dict[str, str]:
    """A query of those arguments that are not None; true and false as JSON writes them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in arguments.items()
        if value is not None
    }


def get(where: str, read: Callable[[Reply], T], **arguments: Any) -> Call[T]:
    """Read something. ``arguments`` are the query."""
    return Call(Request("GET", where, query(**arguments)), read)


def delete(where: str) -> Call[None]:
    """Delete something."""
    return Call(Request("DELETE", where), nothing)


def send_json(
    method: str,
    where: str,
    body: Mapping[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
    read_seconds: float | None = None,
    **arguments: Any,
) -> Request:
    """A request with a JSON body of those fields that are not None. ``arguments`` are the query."""
    content = json_bytes({name: value for name, value in body.items() if value is not None})
    sent = {"content-type": "application/json", **(headers or {})}
    return Request(method, where, query(**arguments), sent, content, read_seconds)


def json_bytes(value: Any) -> bytes:
    """JSON of what a caller gave: models and times among it too. Raises ``SourceError`` for a number that is none."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain).encode(errors="surrogatepass")
    except ValueError as error:
        raise SourceError(_not_finite(value) or f"the request cannot be written as JSON: {error}") from None


def _not_finite(value: Any, where: str = "") -> str | None:
    """Where the first number stands that JSON has not, in words."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where}: {value} is no number that can be sent"
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    inner = value.items() if isinstance(value, Mapping) else ()
    return next((found for name, one in inner if (found := _not_finite(one, f"{where}/{name}"))), None)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def model(kind: type[Model]) -> Callable[[Reply], Model]:
    """Read an answer as a model."""

    def read(reply: Reply) -> Model:
        try:
            return kind.model_validate_json(reply.content)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            raise UnexpectedAnswerError(f"the answer is no {kind.__name__}: {where}: {first['msg']}") from None

    return read


def nothing(_reply: Reply) -> None:
    """Read an answer without content."""
