"""Lists."""

from __future__ import annotations

from typing import Generic, TypeVar

from contextune.models.answered import Answered

Item = TypeVar("Item")


class Page(Answered, Generic[Item]):
    """One page of a list, newest first; ``next`` is the cursor of the page after it."""

    object: str = "list"
    data: tuple[Item, ...]
    has_more: bool = False
    next: str | None = None
