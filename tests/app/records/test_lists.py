"""Lists: order, cursors, filters on indexes."""

import base64

import pytest

from app.contract.names import JobKind, JobStatus
from app.contract.objects import Scores
from app.records.lists import ContextFilter, JobFilter, UnknownCursor
from app.records.store import Records
from tests.app.records.steps import FAILURE, claim, submit, succeed


def test_lists_are_newest_first_and_go_on_after_a_cursor(records: Records) -> None:
    ids = [submit(records)[0] for _ in range(5)][::-1]
    contexts, pages, after = records.of("default").contexts, [], None
    for _ in range(3):
        page = contexts.page(2, after)
        pages.append([stored.context.id for stored in page.data])
        after = page.next
    assert pages == [ids[:2], ids[2:4], ids[4:]]
    assert after is None


def test_cursor_outlives_what_it_points_at(records: Records) -> None:
    ids = [submit(records)[0] for _ in range(4)][::-1]
    contexts = records.of("default").contexts
    page = contexts.page(2)
    for one in ids[1:3]:
        contexts.delete(one)
    assert [stored.context.id for stored in contexts.page(2, page.next).data] == [ids[3]]


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    ["", "ctx_1", "%%", "é", encoded("2.7"), encoded("1.-7"), encoded("1.7-0"), encoded("1." + "9" * 99)],
)
def test_text_that_is_no_cursor_is_refused(records: Records, cursor: str) -> None:
    with pytest.raises(UnknownCursor):
        records.of("default").contexts.page(2, cursor)
    with pytest.raises(UnknownCursor):
        records.of("default").jobs.page(2, cursor)


def test_cursor_of_the_audit_log_is_none_of_a_list_nor_the_other_way_round(records: Records) -> None:
    tenant = records.of("default")
    for _ in range(2):
        submit(records)
        tenant.audit.append(None, "context.create", None)
    with pytest.raises(UnknownCursor):
        tenant.contexts.page(1, tenant.audit.page(1).next)
    with pytest.raises(UnknownCursor):
        tenant.audit.page(1, tenant.contexts.page(1).next)


def test_contexts_are_filtered_by_all_that_is_asked(records: Records) -> None:
    team = {"team": "cards"}
    wanted = succeed(records, "a", metadata={"team": "cards", "env": "test"})
    succeed(records, "a")
    succeed(records, "b", metadata=team)
    submit(records, "a", metadata=team)
    contexts = records.of("default").contexts

    def found(**filters: object) -> list[str]:
        return [one.context.id for one in contexts.page(10, None, ContextFilter(**filters)).data]  # type: ignore[arg-type]

    assert found(name="a", status=JobStatus.SUCCEEDED, metadata=team) == [wanted]
    assert found(metadata={"team": "cards", "env": "test"}) == [wanted]
    assert found(model="tiny", metadata={"team": "loans"}) == []
    assert [len(found(**one)) for one in ({"name": "a"}, {"status": "succeeded"}, {"metadata": team})] == [3, 3, 3]
    assert (len(found(model="tiny")), found(model="other"), found(name="c")) == (4, [], [])


def test_jobs_are_filtered_by_all_that_is_asked(records: Records) -> None:
    context_id, _ = submit(records)
    records.finish_failed(claim(records), FAILURE)
    others = [submit(records)[1] for _ in range(3)]
    claim(records)
    jobs = records.of("default").jobs

    def found(**filters: object) -> list[str]:
        return [one.id for one in jobs.page(10, None, JobFilter(**filters)).data]  # type: ignore[arg-type]

    assert found(status=JobStatus.QUEUED) == [others[2], others[1]]
    assert found(status=JobStatus.RUNNING, model="tiny") == [others[0]]
    assert len(found(context_id=context_id, status=JobStatus.FAILED)) == 1
    assert found(context_id=context_id, status=JobStatus.QUEUED) == []
    assert (len(found(kind=JobKind.TUNING)), found(kind=JobKind.BATCH)) == (4, [])


def test_filter_that_little_passes_fills_its_page(records: Records) -> None:
    wanted = [submit(records, "a", metadata={"team": "cards"})[0]]
    for _ in range(520):  # more than the store walks at once
        submit(records, "a")
    submit(records, "b", metadata={"team": "cards"})
    wanted.insert(0, submit(records, "a", metadata={"team": "cards"})[0])
    contexts = records.of("default").contexts
    one = contexts.page(1, None, ContextFilter(name="a", status=JobStatus.QUEUED, metadata={"team": "cards"}))
    two = contexts.page(5, one.next, ContextFilter(name="a", status=JobStatus.QUEUED, metadata={"team": "cards"}))
    assert [stored.context.id for page in (one, two) for stored in page.data] == wanted
    assert two.next is None


def test_lists_hold_the_scores_of_a_report_alone(records: Records) -> None:
    succeed(records)
    assert records.of("default").contexts.page(1).data[0].context.report == Scores(served="tuned")
