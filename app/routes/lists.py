"""The form of every list: newest first, ``limit`` at a time, after a cursor."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Query

from app.contract.payload import Payload
from app.records.lists import Page

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=100, description="how many at most")]
After = Annotated[str | None, Query(max_length=100, description="`next` of the page before")]


class Listing(Payload, Generic[Item]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: tuple[Item, ...]
    has_more: bool
    next: str | None

    @classmethod
    def of(cls, page: Page[Item]) -> Listing[Item]:
        """The answer that holds a page."""
        return cls(data=page.data, has_more=page.next is not None, next=page.next)
