"""Contexts: versions, refs, aliases, metadata, deletion."""

from pathlib import Path
from typing import cast

import pytest
import redis

from app.contract.names import JobStatus
from app.contract.objects import Scores
from app.records.bodies import Bodies
from app.records.contexts import AliasMoved, AliasRefused, ContextInUse, Contexts, TooMuchMetadata
from app.records.lists import ContextFilter
from app.records.rows import NewerFormat
from app.records.store import Records
from tests.app.records.steps import (
    FAILURE,
    REPORT,
    claim,
    content,
    context_of,
    delete,
    job_id_of,
    job_of,
    resolved_id,
    submit,
    succeed,
)
from tests.submissions import MODEL


def test_versions_of_a_name_count_up_and_none_is_given_twice(records: Records) -> None:
    first, second = succeed(records, "intents"), succeed(records, "intents")
    records.of("default").contexts.delete(second)
    third = succeed(records, "intents")
    assert [context_of(records, id_).context.version for id_ in (first, third)] == [1, 3]
    assert resolved_id(records, "intents@2") is None


def test_counter_of_a_name_outlives_its_versions_for_a_while(records: Records, client: redis.Redis) -> None:
    context_id = succeed(records, "intents")
    assert client.ttl("{ct}:t:default:name:intents") == -1
    delete(records, context_id)
    assert 29 * 86_400 < client.ttl("{ct}:t:default:name:intents") <= 30 * 86_400
    again = succeed(records, "intents")
    assert context_of(records, again).context.version == 2
    assert client.ttl("{ct}:t:default:name:intents") == -1


def test_contexts_without_a_name_are_each_a_version_1(records: Records) -> None:
    contexts = [context_of(records, submit(records)[0]).context for _ in range(2)]
    assert [(context.name, context.version) for context in contexts] == [(None, 1), (None, 1)]


def test_name_means_its_newest_version_that_can_answer(records: Records) -> None:
    first, second = succeed(records, "intents"), succeed(records, "intents")
    third, _ = submit(records, "intents")
    assert resolved_id(records, "intents") == resolved_id(records, "intents@latest") == second
    assert [resolved_id(records, f"intents@{version}") for version in (1, 2, 3)] == [first, second, third]
    records.of("default").contexts.delete(second)
    assert resolved_id(records, "intents") == first


def test_name_whose_versions_cannot_answer_means_the_newest_and_what_it_waits_for(records: Records) -> None:
    _, waits_for = submit(records, "intents")
    contexts = records.of("default").contexts
    newest, job_id = submit(records, "intents")
    records.of("default").jobs.cancel(job_id)
    stored = contexts.resolve("intents")
    assert stored
    assert (stored.context.id, stored.pending_job) == (newest, waits_for)
    records.finish_failed(claim(records), FAILURE)
    stored = contexts.resolve("intents")
    assert stored
    assert (stored.context.id, stored.pending_job) == (newest, None)


@pytest.mark.parametrize(
    "ref",
    [
        "", "@", "@1", "intents@", "intents@0", "intents@2", "intents@-1", "intents@+1", "intents@1.0", "intents@01",
        "intents@1 ", "intents@1@1", "intents@inf", "intents@\u0661", "intents@" + "1" * 5000, "Intents", "ctx_",
        "ctx_x@1", "\0", "intents@prod", "intents@last", "intents@@prod",
    ],
)  # fmt: skip
def test_ref_of_nothing_resolves_to_nothing(records: Records, ref: str) -> None:
    succeed(records, "intents")
    assert records.of("default").contexts.resolve(ref) is None


def test_context_of_another_tenant_is_not_there(records: Records) -> None:
    context_id = succeed(records, "intents", "a")
    others = records.of("b").contexts
    assert (others.get(context_id), others.resolve("intents"), others.delete(context_id)) == (None, None, None)
    assert (others.page(10).data, others.named(10)) == ((), [])
    assert not others.patch_metadata(context_id, {"team": "cards"})
    assert others.set_alias("intents", "prod", 1) == AliasRefused("unknown")
    assert context_of(records, succeed(records, "intents", "b"), "b").context.version == 1


def names(contexts: Contexts, most: int) -> list[str]:
    return [one.name for one in contexts.named(most)]


def test_names_that_can_answer_are_listed_newest_first(records: Records) -> None:
    contexts = records.of("default").contexts
    ids = [succeed(records, name) for name in ("a", "b", "c", "a")]
    submit(records, "d")
    assert (names(contexts, 10), names(contexts, 2)) == (["a", "c", "b"], ["a", "c"])
    contexts.delete(ids[1])
    contexts.delete(ids[3])
    assert set(names(contexts, 10)) == {"a", "c"}
    told = contexts.named(1)[0]
    assert (told.model, told.labels, told.metadata) == ("tiny", ("good", "bad"), {})


# -- aliases ----------------------------------------------------------------------------------------------------------


def test_alias_moves_between_versions_that_can_answer(records: Records) -> None:
    contexts = records.of("default").contexts
    first, second = succeed(records, "intents"), succeed(records, "intents")
    assert contexts.set_alias("intents", "prod", 1) == AliasMoved(None)
    assert contexts.set_alias("intents", "canary", 1) == AliasMoved(None)
    assert (resolved_id(records, "intents@prod"), resolved_id(records, "intents")) == (first, second)
    assert context_of(records, first).context.aliases == ("canary", "prod")
    assert contexts.set_alias("intents", "prod", 2, expected=1) == AliasMoved(1)
    assert resolved_id(records, "intents@prod") == second
    assert [context_of(records, id_).context.aliases for id_ in (first, second)] == [("canary",), ("prod",)]


def test_alias_is_not_moved_to_what_cannot_answer_nor_from_where_it_does_not_point(
    records: Records, client: redis.Redis
) -> None:
    contexts = records.of("default").contexts
    succeed(records, "intents")
    submit(records, "intents")
    contexts.set_alias("intents", "prod", 1)
    before = content(client)
    assert contexts.set_alias("intents", "prod", 2) == AliasRefused(JobStatus.QUEUED)
    assert contexts.set_alias("intents", "prod", 3) == AliasRefused("unknown")
    assert contexts.set_alias("intents", "prod", 1, expected=2) == AliasMoved(1), "it was done already"
    assert contexts.set_alias("intents", "new", 1, expected=1) == AliasRefused("changed")
    assert contexts.delete_alias("intents", "prod", expected=2) == "changed"
    assert contexts.delete_alias("intents", "other") == "unknown"
    assert content(client) == before


def test_version_with_an_alias_is_in_use(records: Records) -> None:
    contexts = records.of("default").contexts
    context_id = succeed(records, "intents")
    contexts.set_alias("intents", "prod", 1)
    with pytest.raises(ContextInUse):
        contexts.delete(context_id)
    assert contexts.delete_alias("intents", "prod", expected=1) == "deleted"
    assert context_of(records, context_id).context.aliases == ()
    assert contexts.delete(context_id)


# -- metadata ---------------------------------------------------------------------------------------------------------


def test_metadata_is_changed_key_by_key_and_found_by_it(records: Records) -> None:
    contexts = records.of("default").contexts
    context_id, _ = submit(records, metadata={"team": "cards", "größe": "\U0001f600"})
    assert contexts.patch_metadata(context_id, {"team": "loans", "owner": 'é "x"'})
    assert contexts.patch_metadata(context_id, {"größe": None, "none": None})
    assert context_of(records, context_id).context.metadata == {"team": "loans", "owner": 'é "x"'}

    def found(**metadata: str) -> int:
        return len(contexts.page(10, None, ContextFilter(metadata=metadata)).data)

    assert [found(team="loans"), found(owner='é "x"'), found(team="loans", owner='é "x"')] == [1, 1, 1]
    assert [found(team="cards"), found(größe="\U0001f600"), found(team="loans", owner="x")] == [0, 0, 0]


def test_metadata_that_is_all_removed_is_empty(records: Records) -> None:
    contexts = records.of("default").contexts
    context_id, _ = submit(records, metadata={"team": "cards"})
    assert contexts.patch_metadata(context_id, {"team": None})
    assert context_of(records, context_id).context.metadata == {}
    assert contexts.patch_metadata(context_id, {})
    assert not contexts.patch_metadata("ctx_unknown", {"a": "b"})


def test_too_much_metadata_changes_nothing(records: Records, client: redis.Redis) -> None:
    context_id, _ = submit(records, metadata={str(number): "" for number in range(16)})
    before = content(client)
    with pytest.raises(TooMuchMetadata):
        records.of("default").contexts.patch_metadata(context_id, {"one": "more"})
    assert content(client) == before


# -- delete -----------------------------------------------------------------------------------------------------------


def test_deleted_context_leaves_only_its_job(records: Records, client: redis.Redis) -> None:
    contexts = records.of("default").contexts
    context_id = succeed(records, "intents", metadata={"team": "cards"})
    job_id = job_id_of(records, context_id)
    spec, report = cast("list[str]", client.hmget(f"{{ct}}:t:default:context:{context_id}", "spec", "report"))
    deletion = delete(records, context_id)
    assert deletion is not None
    assert (deletion.job_id, deletion.files.addresses) == (job_id, (spec, "address", report))
    assert contexts.delete(context_id) is None
    assert (contexts.get(context_id), contexts.page(10).data, contexts.named(10)) == (None, (), [])
    assert resolved_id(records, "intents") is None
    assert job_of(records, job_id).status == "succeeded"
    records.of("default").jobs.delete(job_id)
    kept = {
        "{ct}:turn",
        "{ct}:backlog",
        "{ct}:queued",
        "{ct}:totals",
        "{ct}:t:default:sequence",
        "{ct}:t:default:name:intents",
    }
    assert set(content(client)) <= kept


def test_deleting_a_context_cancels_its_queued_job(records: Records) -> None:
    context_id, job_id = submit(records)
    assert records.of("default").contexts.delete(context_id)
    assert job_of(records, job_id).status == "cancelled"
    assert records.claim([MODEL], "idle") is None


def test_deleting_a_context_cancels_its_running_job(records: Records) -> None:
    context_id, job_id = submit(records)
    claimed = claim(records)
    deletion = records.of("default").contexts.delete(context_id)
    assert deletion
    assert 0 < deletion.files.wait_seconds <= 6
    assert records.of("default").contexts.get(context_id) is None
    assert job_of(records, job_id).status == "cancelled"
    assert records.beat(claimed) == records.finish_succeeded(claimed, "address", REPORT, {}) == "lost"
    assert records.let_go(claimed)
    deletion = records.of("default").contexts.delete(context_id)
    assert deletion
    assert deletion.files.wait_seconds == 0


def test_unknown_context_cannot_be_deleted(records: Records, client: redis.Redis) -> None:
    assert records.of("default").contexts.delete("ctx_unknown") is None
    assert content(client) == {}


# -- what other releases write ----------------------------------------------------------------------------------------


def test_fields_that_are_not_known_are_ignored_and_missing_ones_filled_in(
    records: Records, client: redis.Redis, tmp_path: Path
) -> None:
    context_id = succeed(records, "intents")
    key = f"{{ct}}:t:default:context:{context_id}"
    client.hset(key, "mood", "sunny")
    client.hset(key, "scores", '{"served":"icl","mood":"sunny"}')
    report = '{"served":"tuned","loss_curve":[1],"mood":"sunny"}'
    bodies = Bodies(f"file://{tmp_path}/artifacts")
    bodies.put(report)
    client.hset(key, "report", bodies.address(report))
    client.hdel(key, "aliases", "encoder", "metadata")
    context = context_of(records, context_id).context
    assert (context.aliases, context.encoder, context.metadata) == ((), None, {})
    assert context.report == REPORT.model_copy(update={"loss_curve": (1.0,)})
    assert records.of("default").contexts.page(1).data[0].context.report == Scores(served="icl")


def test_row_of_a_newer_format_is_refused_alone(records: Records, client: redis.Redis) -> None:
    contexts = records.of("default").contexts
    ids = [succeed(records) for _ in range(3)]
    client.hset(f"{{ct}}:t:default:context:{ids[1]}", "format", 2)
    with pytest.raises(NewerFormat, match=ids[1]):
        contexts.get(ids[1])
    page = contexts.page(2)
    assert ([stored.context.id for stored in page.data], page.next) == ([ids[2], ids[0]], None)


def test_name_whose_version_is_of_a_newer_format_is_left_out_alone(records: Records, client: redis.Redis) -> None:
    contexts = records.of("default").contexts
    ids = [succeed(records, name) for name in ("a", "b", "c")]
    client.hset(f"{{ct}}:t:default:context:{ids[1]}", mapping={"format": 2, "labels": "of another kind"})
    assert names(contexts, 10) == ["c", "a"]
