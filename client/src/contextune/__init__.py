"""Contextune's Python client: labelled examples in, a text classifier out, over HTTP."""

from contextune.async_client import AsyncContextune
from contextune.client import Contextune
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
    RequestTimeoutError,
    ServiceError,
    ServiceUnreachableError,
    SourceError,
    UnexpectedAnswerError,
)
from contextune.models import Answer, Classification, Context, Example, Job, LabelDescription, Report, Template
from contextune.protocol.retry import RetryPolicy
from contextune.sources import Columns
from contextune.version import VERSION

__version__ = VERSION

__all__ = [
    "Answer",
    "AsyncContextune",
    "AuthenticationError",
    "Classification",
    "Columns",
    "ConflictError",
    "Context",
    "Contextune",
    "ContextuneError",
    "Example",
    "InvalidRequestError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "LabelDescription",
    "NotFoundError",
    "PermissionDeniedError",
    "ProblemError",
    "RateLimitError",
    "Report",
    "RequestTimeoutError",
    "RetryPolicy",
    "ServiceError",
    "ServiceUnreachableError",
    "SourceError",
    "Template",
    "UnexpectedAnswerError",
    "__version__",
]
