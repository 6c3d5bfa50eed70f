"""Conversations: one call with its retries, all pages of a list, waiting for the end of a job."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeVar

from contextune.errors import ContextuneError, JobCancelledError, JobFailedError, RequestTimeoutError, problem_error
from contextune.models.jobs import Job
from contextune.protocol.call import Call, Reply, Request, Upload
from contextune.protocol.retry import Patience, RetryPolicy, is_transient, retry_after

T = TypeVar("T")
AnyJob = TypeVar("AnyJob", bound=Job)

#: How long one question about a job waits for its end (seconds); proxies cut off what is silent for a minute.
WAIT_SECONDS: Final = 25.0
#: How often a job is asked about while somebody watches its progress (seconds).
WATCH_SECONDS: Final = 1.0
#: The shortest time between two questions about a job: a service that answers at once (as it does while it
#: stops) would be asked some hundred times a second without it.
LEAST_SECONDS: Final = 0.5
#: How long the last answer about a job may take beyond the time that there is to wait for it (seconds).
GRACE_SECONDS: Final = 5.0
_ONCE: Final = RetryPolicy(attempts=1)


@dataclass(frozen=True)
class Pause:
    """A wait before what comes next."""

    seconds: float


@dataclass(frozen=True)
class Failure:
    """A request that got no whole answer."""

    error: ContextuneError


Step: TypeAlias = Request | Pause
Outcome: TypeAlias = Reply | Failure | None
Conversation: TypeAlias = Generator[Step, Outcome, T]
Clock: TypeAlias = Callable[[], float]


def one_call(call: Call[T], policy: RetryPolicy | Patience) -> Conversation[T]:
    """Send ``call`` until it succeeds, or raise the error of the last attempt."""
    request = _with_idempotency_key(call)
    attempt = 0
    while True:
        attempt += 1
        outcome = yield request
        try:
            return call.read(successful(outcome, call.also_status))
        except ContextuneError as error:
            seconds = policy.pause(attempt, error) if _is_repeatable(request) else None
            if seconds is None:
                raise
        yield Pause(seconds)


def successful(outcome: Outcome, also_status: int | None = None) -> Reply:
    """The answer, if it is one (or has that other status). Raises what the failure or the problem document says."""
    if isinstance(outcome, Failure):
        raise outcome.error
    if outcome is None:
        raise TypeError("a request was answered with nothing")
    if outcome.status >= 300 and outcome.status != also_status:
        raise problem_error(outcome.status, _document(outcome), retry_after(outcome.headers))
    return outcome


def wait_for_end(
    look: Callable[[float], Call[AnyJob]],
    now: Clock,
    timeout: float | None,
    on_progress: Callable[[AnyJob], None] | None = None,
) -> Conversation[AnyJob]:
    """Ask about a job until it has ended well. ``look`` makes the call that waits so many seconds in the service.

    Raises ``JobFailedError``, ``JobCancelledError``, and ``RequestTimeoutError`` once ``timeout`` seconds have passed,
    whether the service answers or not; the job itself goes on then. Without a ``timeout`` that is near, an outage
    raises its last error after `contextune.protocol.retry.PATIENCE_SECONDS`.
    """
    until = math.inf if timeout is None else now() + timeout
    most = WATCH_SECONDS if on_progress else WAIT_SECONDS
    while True:
        asked = now()
        try:
            job = yield from _looked(look, now, most, until)
        except ContextuneError as error:
            if is_transient(error) and now() >= until:
                raise RequestTimeoutError(f"no answer says that the job ended within {timeout:g} seconds") from error
            raise
        if on_progress:
            on_progress(job)
        if job.terminal:
            return ended_well(job)
        if now() >= until:
            raise RequestTimeoutError(f"the job has not ended within {timeout:g} seconds; it goes on")
        early = min(LEAST_SECONDS, until - asked) - (now() - asked)
        if early > 0:
            yield Pause(early)


def _looked(look: Callable[[float], Call[AnyJob]], now: Clock, most: float, until: float) -> Conversation[AnyJob]:
    """Ask about a job, ``most`` seconds at a time, until there is an answer. Raises the last error at ``until``."""
    patience = Patience(now)
    attempt = 0
    while True:
        attempt += 1
        left = max(0.0, until - now())
        try:
            return (yield from one_call(_within(look(min(most, left)), left), _ONCE))
        except ContextuneError as error:
            seconds, left = patience.pause(attempt, error), until - now()
            if seconds is None or left <= 0:
                raise
        yield Pause(min(seconds, left))


def _within(call: Call[T], seconds: float) -> Call[T]:
    """The call, whose answer may come `GRACE_SECONDS` after so many seconds at the latest."""
    most = seconds + GRACE_SECONDS
    return replace(call, request=replace(call.request, read_seconds=min(call.request.read_seconds or most, most)))


def ended_well(job: AnyJob) -> AnyJob:
    """The job, if it has succeeded. Raises ``JobFailedError`` or ``JobCancelledError``."""
    if job.status == "cancelled":
        raise JobCancelledError(job)
    if job.status != "succeeded":
        raise JobFailedError(job)
    return job


def _with_idempotency_key(call: Call[Any]) -> Request:
    if not call.creates:
        return call.request
    key = call.idempotency_key or str(uuid.uuid4())
    return replace(call.request, headers={**call.request.headers, "idempotency-key": key})


def _is_repeatable(request: Request) -> bool:
    return not isinstance(request.content, Upload) or request.content.repeatable


def _document(reply: Reply) -> Mapping[str, Any]:
    """The problem document of an answer, or one in its place where a proxy answered with something else."""
    try:
        document = json.loads(reply.content)
    except ValueError:
        document = None
    if isinstance(document, dict) and "code" in document:
        return document
    return {"code": "unknown", "detail": f"an answer with the status {reply.status} that is no problem document"}
