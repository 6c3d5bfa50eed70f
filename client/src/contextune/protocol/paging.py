"""All pages of a list, one call after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Generic, TypeVar

from contextune.models.listing import Page
from contextune.protocol.call import Call

Item = TypeVar("Item")

_PAGE_ITEMS: Final = 100


class Paging(Generic[Item]):
    """Goes through a list whose first page is ``first``. The limit of that call, if any, is that of the whole."""

    def __init__(self, first: Call[Page[Item]]) -> None:
        limit = first.request.query.get("limit")
        self._left = int(limit) if limit is not None else None
        self._first = first
        self._after = first.request.query.get("after")
        self._ended = False

    def next_call(self) -> Call[Page[Item]] | None:
        """The call of the next page; None at the end."""
        if self._ended or self._left == 0:
            return None
        limit = _PAGE_ITEMS if self._left is None else min(self._left, _PAGE_ITEMS)
        changed = {} if self._first.whole else {"limit": str(limit)}
        if self._after is not None:
            changed["after"] = self._after
        request = replace(self._first.request, query={**self._first.request.query, **changed})
        return replace(self._first, request=request)

    def take(self, page: Page[Item]) -> Sequence[Item]:
        """The items of the page that was asked for."""
        self._after, self._ended = page.next, page.next is None
        items = page.data if self._left is None else page.data[: self._left]
        if self._left is not None:
            self._left -= len(items)
        return items
