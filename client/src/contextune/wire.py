"""Between the protocol and the HTTP library: requests, answers and failures of the one as those of the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from contextune.errors import RequestTimeoutError, ServiceUnreachableError, UnexpectedAnswerError
from contextune.options import Options
from contextune.protocol.call import Reply, Request, Upload


def arguments(request: Request, options: Options) -> dict[str, Any]:
    """What ``build_request`` takes, but for the content."""
    kind = {"content-type": request.content.content_type} if isinstance(request.content, Upload) else {}
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query) or None,
        "headers": {**kind, **request.headers},
        "timeout": options.timeout(request),
    }


def reply(response: httpx2.Response) -> Reply:
    """A whole answer."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content)


def check_events(response: httpx2.Response, url: str) -> None:
    """Raise ``UnexpectedAnswerError`` unless the answer is a stream of events."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        raise UnexpectedAnswerError(f"{url} sends no events: the type of its answer is {kind!r}")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise this package's errors in place of the HTTP library's."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise RequestTimeoutError(f"{url} does not answer in time ({type(error).__name__})") from error
    except httpx2.TransportError as error:
        raise ServiceUnreachableError(f"{url} does not answer: {error or type(error).__name__}") from error
