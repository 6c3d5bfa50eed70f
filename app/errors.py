"""Expected failures, as the code below the routes raises them. It knows nothing of HTTP: `app.problems` translates."""

from __future__ import annotations

from app.contract.messages import Failure
from app.contract.names import ErrorCode


class DomainError(Exception):
    """An expected failure: what went wrong (``code``), in words (``detail``), and where (``param``, a JSON pointer).

    ``retry_after`` is after how many seconds the same may go well; None where nothing is known of that.
    """

    def __init__(
        self, code: ErrorCode, detail: str, param: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.param = param
        self.retry_after = retry_after

    @classmethod
    def from_failure(cls, failure: Failure) -> DomainError:
        """The failure that a worker reported as data."""
        return cls(failure.code, failure.message, failure.param)
