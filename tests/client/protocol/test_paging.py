"""All pages of a list."""

from typing import Any

import pytest
from contextune.calls import contexts, service
from contextune.models import BaseModelInfo, Context, Page
from contextune.protocol.paging import Paging

from tests.client.answers import context

PAGES: dict[str | None, tuple[list[str], str | None]] = {
    None: (["ctx_1", "ctx_2"], "second"), "second": (["ctx_3", "ctx_4"], "third"), "third": (["ctx_5"], None),
}  # fmt: skip


def listed(paging: Paging[Context]) -> tuple[list[str], list[dict[str, str]]]:
    """Ids of all that is listed, and the queries that asked for it."""
    found: list[str] = []
    queries = []
    while call := paging.next_call():
        queries.append(dict(call.request.query))
        ids, after = PAGES[call.request.query.get("after")]
        page = Page[Context].model_validate({"data": [context(id=one) for one in ids], "next": after})
        found += [one.id for one in paging.take(page)]
    return found, queries


def test_list_goes_through_all_pages_with_the_filters_of_the_first() -> None:
    found, queries = listed(Paging(contexts.page(name="intents", metadata={"team": "cards"})))
    assert found == ["ctx_1", "ctx_2", "ctx_3", "ctx_4", "ctx_5"]
    first = {"name": "intents", "metadata[team]": "cards", "limit": "100"}
    assert queries == [first, {**first, "after": "second"}, {**first, "after": "third"}]


@pytest.mark.parametrize(("limit", "asked"), [(0, []), (1, ["1"]), (2, ["2"]), (3, ["3", "1"])])
def test_limit_is_that_of_the_whole(limit: int, asked: list[str]) -> None:
    found, queries = listed(Paging(contexts.page(limit=limit)))
    assert (len(found), [query["limit"] for query in queries]) == (limit, asked)


def test_list_goes_on_where_the_caller_says() -> None:
    assert listed(Paging(contexts.page(after="third")))[0] == ["ctx_5"]


def test_models_are_one_answer() -> None:
    paging = Paging(service.models())
    call: Any = paging.next_call()
    assert call.request.query == {}
    paging.take(Page[BaseModelInfo](data=()))
    assert paging.next_call() is None
