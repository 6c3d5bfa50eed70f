"""What can go wrong, as exceptions; every one of them is a `ContextuneError`.

ContextuneError
├── ServiceUnreachableError      no answer: nothing listens there, or the connection broke
│   └── RequestTimeoutError      no answer in time
├── ProblemError                 the service answered with a problem document (RFC 9457)
│   ├── InvalidRequestError      400, 413, 415, 422
│   ├── AuthenticationError      401
│   ├── PermissionDeniedError    403
│   ├── NotFoundError            404, 410
│   ├── ConflictError            409, 412
│   ├── RateLimitError           429
│   └── ServiceError             5xx
├── UnexpectedAnswerError        the answer is not one of this service, or of a much newer one
├── JobFailedError               the job that was waited for has failed
├── JobCancelledError            the job that was waited for was cancelled
└── SourceError                  a file, a table or a number of the caller's is not what it should be
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextune.models.jobs import Job


class ContextuneError(Exception):
    """The base of everything that this package raises by itself."""


class ServiceUnreachableError(ContextuneError):
    """No answer came: nothing listens at the URL, or the connection broke."""


class RequestTimeoutError(ServiceUnreachableError):
    """No answer came in time."""


class ProblemError(ContextuneError):
    """A problem document of the service.

    ``status`` is the HTTP status, ``code`` the stable word for what went wrong (a newer service may send one that this
    client does not know), ``param`` the JSON pointer to where, ``request_id`` what the service's logs call the request.
    ``retry_after`` is in seconds, None where the service did not say when to come again. ``document`` is the whole.
    """

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.document = dict(document)
        self.code = str(document.get("code", "unknown"))
        self.detail = str(document.get("detail") or document.get("title") or "no detail was given")
        self.param: str | None = document.get("param")
        self.request_id: str | None = document.get("request_id")
        self.retry_after = retry_after
        super().__init__(status, self.document, retry_after)

    def __str__(self) -> str:
        where = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.detail} [{self.status} {self.code}]{where}"


class InvalidRequestError(ProblemError):
    """Something in the request is wrong; ``param`` points at it."""


class AuthenticationError(ProblemError):
    """No key was sent, or one that is not valid (any more)."""


class PermissionDeniedError(ProblemError):
    """The key is valid and may not do this."""


class NotFoundError(ProblemError):
    """There is no such thing, any more or at all."""


class ConflictError(ProblemError):
    """The thing is in a state that does not allow this."""


class RateLimitError(ProblemError):
    """Too much at once; ``retry_after`` says when to come again."""


class ServiceError(ProblemError):
    """The service cannot answer now."""


class UnexpectedAnswerError(ContextuneError):
    """The answer is not what the contract says: something else listens at the URL, or a much newer service."""


class JobFailedError(ContextuneError):
    """The job has failed; ``code`` and ``message`` say why."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.code = job.error.code if job.error else "unknown"
        self.message = job.error.message if job.error else "no reason was given"
        super().__init__(job)

    def __str__(self) -> str:
        return f"the job {self.job.id} has failed: {self.message} [{self.code}]"


class JobCancelledError(ContextuneError):
    """The job was cancelled."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(job)

    def __str__(self) -> str:
        return f"the job {self.job.id} was cancelled"


class SourceError(ContextuneError, ValueError):
    """What the caller gave is not what it should be; the text says what and where, in one line."""


_BY_STATUS: Mapping[int, type[ProblemError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    412: ConflictError,
    429: RateLimitError,
}


def problem_error(status: int, document: Mapping[str, Any], retry_after: float | None = None) -> ProblemError:
    """The exception of the right kind for a problem document."""
    fallback = ServiceError if status >= 500 else InvalidRequestError
    return _BY_STATUS.get(status, fallback)(status, document, retry_after)
