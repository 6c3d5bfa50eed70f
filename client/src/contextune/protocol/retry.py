"""When to try again and how long to wait before that: the service's hint, else a backoff; always with jitter."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from contextune.errors import ContextuneError, ProblemError, ServiceUnreachableError

#: Statuses after which the same request can succeed without a change of it.
_TRANSIENT: Final = frozenset({408, 429, 502, 503, 504})
#: Conflicts that pass by themselves.
_PASSING: Final = frozenset({"idempotency_in_progress"})


#: How long waiting and streams ride through a service that does not answer: a restart of gateway and worker (seconds).
PATIENCE_SECONDS: Final = 300.0
_LONGEST_PATIENT_PAUSE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try, and how long to wait in between (seconds).

    A hint of the service (``retry-after-ms``, ``Retry-After``) is obeyed up to ``longest_hint``; beyond it the failure
    is raised, with the hint. Without a hint the wait doubles from ``first`` up to ``longest``, and half is random.
    """

    attempts: int = 4
    first: float = 0.5
    longest: float = 8.0
    longest_hint: float = 60.0
    random: Callable[[], float] = field(default=random.random, repr=False)

    def pause(self, attempt: int, error: ContextuneError) -> float | None:
        """Seconds to wait after the ``attempt``-th attempt (from 1) ended so; None is to give up."""
        if attempt >= self.attempts or not is_transient(error):
            return None
        hint: float | None = error.retry_after if isinstance(error, ProblemError) else None
        if hint is None:
            backoff = min(self.longest, self.first * 2.0 ** min(attempt - 1, 30))
            return backoff * (1 + self.random()) / 2
        return hint + self.random() * min(1.0, hint / 4) if hint <= self.longest_hint else None


class Patience:
    """Tries again for `PATIENCE_SECONDS` after anything succeeded last, which is longer than a restart takes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._policy = RetryPolicy(attempts=sys.maxsize, longest=_LONGEST_PATIENT_PAUSE_SECONDS)
        self.succeeded()

    def succeeded(self) -> None:
        """Begin anew: the service answers."""
        self._since = self._now()

    def pause(self, attempt: int, error: ContextuneError) -> float | None:
        """As `RetryPolicy.pause`."""
        if self._now() - self._since > PATIENCE_SECONDS:
            return None
        return self._policy.pause(attempt, error)


def is_transient(error: ContextuneError) -> bool:
    """Whether the same request can succeed later."""
    if isinstance(error, ProblemError):
        return error.status in _TRANSIENT or error.code in _PASSING
    return isinstance(error, ServiceUnreachableError)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds after which to come again, by ``retry-after-ms`` or ``Retry-After`` (RFC 9110, 10.2.3)."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    """A count that is written in digits; None for all else, negative and endless ones included."""
    text = (text or "").strip()
    return float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else None
