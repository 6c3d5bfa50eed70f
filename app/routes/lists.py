"""The form of every list: newest first, ``limit`` at a time, after a given id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Query

from app.contract.payload import Payload

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=100, description="how many at most")]
After = Annotated[str | None, Query(max_length=100, description="the id after which to go on")]


class Listing(Payload, Generic[Item]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: tuple[Item, ...]
    has_more: bool

    @classmethod
    def page(cls, found: Sequence[Item], limit: int) -> Listing[Item]:
        """The page of ``found``, which holds one more than ``limit`` if there is more."""
        return cls(data=tuple(found[:limit]), has_more=len(found) > limit)
