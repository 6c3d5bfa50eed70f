"""Pages of lists: filters that are indexes, and cursors that outlive what they point at."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

import structlog

from app.contract.names import JobKind, JobStatus
from app.records.connection import Store
from app.records.rows import NewerFormat, Row, row_of

_T = TypeVar("_T")
#: Holds an order of creation.
_CURSOR: Final = re.compile(rb"1\.([0-9]{1,15})")
#: Holds the id of an entry in a stream.
STREAM_CURSOR: Final = re.compile(rb"1\.([0-9]{1,15}-[0-9]{1,10})")


class UnknownCursor(Exception):
    """A text that no list gave as its cursor."""


@dataclass(frozen=True)
class ContextFilter:
    """What the contexts of a page have in common."""

    name: str | None = None
    status: JobStatus | None = None
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def indexes(self) -> list[str]:
        """The indexes that hold such contexts."""
        given = {"name": self.name, "status": self.status, "model": self.model}
        metadata = [hashlib.sha1(f"{k}\0{v}".encode(), usedforsecurity=False) for k, v in self.metadata.items()]
        return [*_named(given), *(f"metadata:{digest.hexdigest()}" for digest in metadata)]


@dataclass(frozen=True)
class JobFilter:
    """What the jobs of a page have in common."""

    status: JobStatus | None = None
    kind: JobKind | None = None
    context_id: str | None = None
    model: str | None = None

    @property
    def indexes(self) -> list[str]:
        """The indexes that hold such jobs."""
        return _named({"status": self.status, "kind": self.kind, "context": self.context_id, "model": self.model})


def _named(given: Mapping[str, str | None]) -> list[str]:
    return [f"{name}:{value}" for name, value in given.items() if value is not None]


@dataclass(frozen=True)
class Page(Generic[_T]):
    """Part of a list, newest first; ``next`` is the cursor to go on with, None at the end."""

    data: tuple[_T, ...]
    next: str | None


def read_page(
    store: Store,
    tenant: str,
    kind: str,
    indexes: list[str],
    limit: int,
    after: str | None,
    load: Callable[[str, Row], _T],
) -> Page[_T]:
    """Up to ``limit`` objects of a tenant that are in all ``indexes``, after a cursor.

    A row of a newer format is left out and logged. Raises `UnknownCursor`.
    """

    def fetch(upper: str, most: int) -> Any:
        return store.run("list", tenant, kind, upper, most, *indexes)

    return read_rows(fetch, limit, after, load)


def read_rows(
    fetch: Callable[[str, int], Any],
    limit: int,
    after: str | None,
    load: Callable[[str, Row], _T],
    cursor: re.Pattern[bytes] = _CURSOR,
) -> Page[_T]:
    """Like `read_page`, from a script of one's own: ``fetch`` runs it with an upper bound and the most rows to return.

    The script returns rows of {id, order, fields}, and the bound to go on from, or false at the end. ``cursor`` is what
    the list's cursors hold.
    """
    upper: str | None = "+inf" if after is None else f"({_order(after, cursor)}"
    found: list[tuple[str, _T]] = []
    while upper is not None and len(found) <= limit:
        rows, bound = cast("tuple[list[tuple[str, str, list[str]]], str | None]", fetch(upper, limit + 1 - len(found)))
        for row_id, order, flat in rows:
            try:
                found.append((order, load(row_id, row_of(flat))))
            except NewerFormat as error:
                structlog.get_logger().warning("row_left_out", reason=str(error))
        upper = bound or None
    more = len(found) > limit
    return Page(tuple(one for _, one in found[:limit]), _cursor(found[limit - 1][0]) if more else None)


def _cursor(order: str) -> str:
    return base64.urlsafe_b64encode(f"1.{order}".encode()).decode().rstrip("=")


def _order(given: str, cursor: re.Pattern[bytes]) -> str:
    try:
        decoded = base64.b64decode(given + "=" * (-len(given) % 4), b"-_", validate=True)
    except ValueError:
        raise UnknownCursor(given) from None
    match = cursor.fullmatch(decoded)
    if match is None:
        raise UnknownCursor(given)
    return match[1].decode()
