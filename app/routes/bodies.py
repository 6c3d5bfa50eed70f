"""JSON bodies: read, decompressed, parsed and checked, the large ones one at a time and off the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, Final, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.errors import DomainError
from app.middleware.bodies import MAX_BODY_BYTES, ArrivingBody, disk_failure
from app.routes.encodings import DECODING_ERRORS, check_complete, decoder_of, not_decodable
from app.validation import MOST_FAULTS

P = TypeVar("P", bound=Payload)

#: Bytes of a body that is parsed in a moment.
_SMALL_BYTES: Final = 64 * 1024


#: Says by the content of a request's body what it is to be read as.
Choice = Callable[[Request, Any], type[Payload]]


def json_body(model: type[P], choose: Choice | None = None) -> Any:
    """Dependency: the body of the request as a ``model``, or as what ``choose`` says.

    Raises `DomainError` for what is no JSON by its type or content, and RequestValidationError for other content.
    """

    async def read(request: Request) -> Payload:
        chosen = None if choose is None else partial(choose, request)
        raw = await _read(request)
        if raw and not _is_json(request.headers.get("content-type", "")):
            raise DomainError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body as application/json")
        if isinstance(raw, bytearray) and len(raw) <= _SMALL_BYTES:
            return _parse(model, chosen, raw)
        async with request.state.body.turn():
            return await asyncio.to_thread(_parse_large, model, chosen, raw)

    return Depends(read)


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


async def _read(request: Request) -> bytearray | BinaryIO:
    """The whole body, decompressed, in memory or in a file."""
    arriving: ArrivingBody = request.state.body
    decoder = decoder_of(request.headers.get("content-encoding", ""))
    body, size = bytearray(), 0
    file: BinaryIO | None = None
    try:
        async for chunk in request.stream():
            # The size on the wire is bounded by the middleware, and here what comes of it.
            part = decoder.decompress(chunk, arriving.limit + 1 - size) if decoder and chunk else chunk
            size += len(part)
            if size > arriving.limit:
                raise arriving.too_large()
            if file is None and size > MAX_BODY_BYTES:
                file = await arriving.spool()
                await asyncio.to_thread(file.write, body)
                body = bytearray()
            if file is not None:
                await asyncio.to_thread(file.write, part)
                continue
            body += part
            if decoder:
                await arriving.hold(size)
    except OSError as error:
        raise disk_failure(error) from error
    except DECODING_ERRORS:
        raise not_decodable() from None
    except ClientDisconnect:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "the body is incomplete") from None
    check_complete(decoder)
    return file or body


_Chosen = Callable[[Any], type[Payload]] | None


def _parse_large(model: type[Payload], chosen: _Chosen, raw: bytearray | BinaryIO) -> Payload:
    if not isinstance(raw, bytearray):
        raw.seek(0)
        raw = bytearray(raw.read())
    if chosen is None:
        with suppress(ValidationError):  # `_parse` tells what is wrong in the same words as for small ones
            return model.model_validate_json(raw)  # needs a fraction of the memory
    return _parse(model, chosen, raw)


def _parse(model: type[Payload], chosen: _Chosen, raw: bytearray) -> Payload:
    if not raw:
        raise _invalid([{"type": "missing", "loc": ("body",), "msg": "a JSON body is required"}], None)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):  # among them numbers of thousands of digits
        raise DomainError(ErrorCode.INVALID_JSON, "the body is not valid JSON") from None
    return checked(model if chosen is None else chosen(content), content)


def checked(model: type[P], content: Any) -> P:
    """The content of a body as a ``model``. Raises RequestValidationError."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise _invalid([{**fault, "loc": ("body", *fault["loc"])} for fault in faults[:MOST_FAULTS]], content) from None


def _invalid(faults: Sequence[Any], content: Any) -> RequestValidationError:
    return RequestValidationError(faults, body=content)
