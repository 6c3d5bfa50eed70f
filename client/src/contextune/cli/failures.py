"""What went wrong, in one line for people or in the envelope, and the exit status that says it to scripts."""

from __future__ import annotations

import sys
from typing import Any, Final, cast

import typer

from contextune.cli.output import envelope, printable
from contextune.errors import (
    AuthenticationError,
    ConflictError,
    ContextuneError,
    InvalidRequestError,
    JobCancelledError,
    JobFailedError,
    NotFoundError,
    PermissionDeniedError,
    ProblemError,
    RateLimitError,
    ServiceError,
    ServiceUnreachableError,
    SourceError,
)


class UnfinishedError(ContextuneError):
    """A batch has not succeeded yet, or never will."""


FAILED: Final = 1
_WRONG_ARGUMENTS_STATUS: Final = 2
#: What typer raises for a command line that is wrong. Releases of typer keep the class in different places.
WRONG_ARGUMENTS: Final[type[Exception]] = cast("type[Exception]", typer.BadParameter.__base__)
BELOW_TARGET: Final = 9
INTERRUPTED: Final = 130
#: The first that fits says the exit status; 2 is a command line that is wrong.
_STATUSES: Final[tuple[tuple[type[ContextuneError], int], ...]] = (
    (InvalidRequestError, 3),
    (SourceError, 3),
    (NotFoundError, 4),
    (AuthenticationError, 5),
    (PermissionDeniedError, 5),
    (ServiceUnreachableError, 6),
    (RateLimitError, 6),
    (ServiceError, 6),
    (JobFailedError, 7),
    (JobCancelledError, 7),
    (ConflictError, 8),
    (UnfinishedError, 8),
)
EXIT_STATUSES: Final = (
    "Exit status: 0 done; 1 something else failed; 2 wrong arguments; 3 a file or a request that is not accepted; "
    "4 not found; 5 not allowed, or no key; 6 the service cannot be reached or cannot answer now; 7 the job has failed "
    "or was cancelled; 8 not in a state that allows it; 9 below the accuracy that was asked for; 130 interrupted."
)


def tell_wrong_arguments(error: Exception) -> int:
    """Print the envelope for a command line that is wrong; return the exit status."""
    message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
    envelope(
        ok=False,
        error={"exit_status": _WRONG_ARGUMENTS_STATUS, "message": message, "code": "wrong_arguments"},
    )
    return _WRONG_ARGUMENTS_STATUS


def of_file(error: OSError) -> ContextuneError:
    """A file that cannot be written or read, as one line."""
    if error.filename is None:
        return ContextuneError(str(error))
    return SourceError(f"{error.filename}: {error.strerror}")


def exit_status(error: ContextuneError) -> int:
    """The exit status for what went wrong."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), FAILED)


def tell(error: ContextuneError, as_json: bool) -> int:
    """Say what went wrong; return the exit status."""
    status = exit_status(error)
    if as_json:
        envelope(ok=False, error=_fields(error, status))
    else:
        sys.stderr.write(f"Error: {printable(_line(error))}\n")
    return status


def _line(error: ContextuneError) -> str:
    if isinstance(error, AuthenticationError):
        return f"{error}; set CONTEXTUNE_API_KEY, or `contextune config set key`"
    if isinstance(error, ServiceUnreachableError):
        return f"{error}; is it running? `contextune up` starts one here, --url names another"
    if isinstance(error, ConflictError) and error.code == "context_not_ready":
        return f"{error}; `contextune jobs wait` waits for a job"
    return str(error)


def _fields(error: ContextuneError, status: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"exit_status": status, "message": str(error), "code": _code(error)}
    if isinstance(error, ProblemError):
        fields |= {
            "message": error.detail,
            "status": error.status,
            "param": error.param,
            "request_id": error.request_id,
            "retry_after": error.retry_after,
        }
    return fields


def _code(error: ContextuneError) -> str:
    if isinstance(error, (ProblemError, JobFailedError)):
        return error.code
    codes: dict[type[ContextuneError], str] = {
        SourceError: "bad_source",
        JobCancelledError: "job_cancelled",
        ServiceUnreachableError: "unreachable",
        UnfinishedError: "not_finished",
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), "failed")
