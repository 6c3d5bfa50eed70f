"""Both clients over a real socket: what they send, what they read, and what breaks in between."""

import asyncio
import json
import pickle
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import contextune
import pytest
from contextune import AsyncContextune, Contextune, RetryPolicy
from contextune.calls.contexts import create
from contextune.client import Contexts
from starlette.responses import Response

from tests.client.answers import AT, context, ended, job
from tests.client.standin import StandIn, says, streams
from tests.ports import free_port

EXAMPLES = [("a", "yes"), ("b", "no")]
FAST = RetryPolicy(first=0.001)


@pytest.fixture
def client(service: StandIn) -> Iterator[Contextune]:
    with Contextune(service.url, "ctk_secret", retries=FAST) as client:
        yield client


async def listed(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def answer(*predictions: str, index: int = 0) -> dict[str, Any]:
    return {
        "id": "cls_1", "object": "classification", "context_id": "ctx_1", "context_version": 1, "model": "tiny",
        "classifications": [
            {"index": number, "prediction": one, "confidence": 0.9, "abstained": False, "truncated": False,
             "labels": {one: {"confidence": 0.9}}}
            for number, one in enumerate(predictions, index)
        ],
        "usage": {"input_tokens": 3, "context_tokens": 9},
    }  # fmt: skip


def event(number: int, kind: str = "metrics", **data: Any) -> str:
    body = {"id": str(number), "type": kind, "level": "info", "created_at": AT, "message": "", "data": data}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(body)}\n\n"


def test_created_context_is_waited_for_and_classifies(service: StandIn, client: Contextune) -> None:
    service.then(
        says({"context": context(status="queued"), "job": job()}, 202),
        says(ended()),
        says(context()),
        says(answer("yes")),
    )
    tuned = client.contexts.create(EXAMPLES, name="intents", hyperparameters={"method": "icl"}).wait()
    assert tuned.status == "succeeded"
    (one,) = tuned.classify("is it?", min_confidence=0.5)
    assert (one.prediction, one.labels["yes"].confidence) == ("yes", 0.9)
    created, _, _, classified = service.seen
    assert json.loads(created.body) == {
        "examples": [{"text": "a", "label": "yes"}, {"text": "b", "label": "no"}],
        "name": "intents",
        "hyperparameters": {"method": "icl"},
    }
    assert created.headers["authorization"] == "Bearer ctk_secret"
    assert json.loads(classified.body) == {"context": "ctx_1", "inputs": ["is it?"], "min_confidence": 0.5}


def test_asynchronous_client_does_the_same(service: StandIn) -> None:
    service.then(
        says({"context": context(status="queued"), "job": job()}, 202),
        says(ended()),
        says(context()),
        says(answer("yes")),
    )

    async def scenario() -> None:
        async with AsyncContextune(service.url, "ctk_secret", retries=FAST) as client:
            tuned = await (await client.contexts.create(EXAMPLES, name="intents")).wait()
            assert (await tuned.classify("is it?")).predictions == ["yes"]

    asyncio.run(scenario())
    assert [one.path for one in service.seen] == ["/contexts", "/jobs/job_1", "/contexts/ctx_1", "/classify"]


def test_retried_create_is_the_same_request(service: StandIn, client: Contextune) -> None:
    busy = {"code": "overloaded", "detail": "too much", "status": 429}
    service.then(says(busy, 429, retry_after="0"), says({"context": context(), "job": job()}, 202))
    client.contexts.create(EXAMPLES)
    first, second = service.seen
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


def test_list_is_read_page_by_page_as_it_is_needed(service: StandIn, client: Contextune) -> None:
    service.then(
        says({"object": "list", "data": [context(id=str(one)) for one in range(2)], "has_more": True, "next": "c"})
    )
    found = client.contexts.list(name="intents")
    assert service.seen == []
    assert [next(found).id, next(found).id] == ["0", "1"]
    assert len(service.seen) == 1
    service.then(says({"object": "list", "data": [], "has_more": False, "next": None}))
    assert list(found) == []
    assert service.seen[1].query == {"name": "intents", "limit": "100", "after": "c"}


def test_refs_are_quoted(service: StandIn, client: Contextune) -> None:
    service.then(says(context()), Response(status_code=204))
    client.contexts.get("a/b@prod")
    client.aliases.delete("a/b", "..%2f")
    assert [one.path for one in service.seen] == ["/contexts/a/b@prod", "/contexts/a/b/aliases/..%2f"]


def test_many_texts_are_answered_in_their_order(service: StandIn, client: Contextune) -> None:
    service.then(says(answer(*["yes"] * 256)), says(answer("no", "yes")))
    found = list(client.classify_many("intents", (f"text {number}" for number in range(258))))
    assert [one.index for one in found] == list(range(258))
    assert [one.prediction for one in found[-3:]] == ["yes", "no", "yes"]


def test_events_go_on_where_the_connection_broke(service: StandIn, client: Contextune) -> None:
    def broken() -> Any:
        return streams(": hello\n\n", event(1, "status", status="running"), event(2, loss=0.7), RuntimeError("gone"))

    rest = [event(3, loss=0.5), event(4, "status", status="succeeded"), event(5)]
    busy = says({"code": "store_unavailable", "status": 503, "detail": ""}, 503, retry_after="0")
    service.then(broken, busy, streams(*rest))
    found = list(client.jobs.events("job_1"))
    assert [one.id for one in found] == ["1", "2", "3", "4"]
    assert found[2].data == {"loss": 0.5}
    assert [one.headers.get("last-event-id") for one in service.seen] == [None, "2", "2"]


def test_asynchronous_events_and_results_go_on_too(service: StandIn) -> None:
    results = [json.dumps({"index": one, "confidence": 1.0, "labels": {}}) + "\n" for one in range(4)]
    service.then(
        lambda: streams(event(1), RuntimeError("gone")),
        streams(event(2, "status", status="failed")),
        lambda: streams(*results[:2], RuntimeError("gone"), media_type="application/jsonl"),
        streams(*results[2:], media_type="application/jsonl"),
    )

    async def scenario() -> None:
        async with AsyncContextune(service.url, retries=FAST) as client:
            assert [one.id for one in await listed(client.jobs.events("job_1"))] == ["1", "2"]
            assert [one.index for one in await listed(client.batches.results("job_1"))] == [0, 1, 2, 3]

    asyncio.run(scenario())
    assert service.seen[-1].query == {"after": "1"}


def test_events_of_a_job_that_is_not_there_are_an_error(service: StandIn, client: Contextune) -> None:
    service.then(says({"code": "job_not_found", "status": 404, "detail": "there is no such job"}, 404))
    with pytest.raises(contextune.NotFoundError, match="there is no such job"):
        list(client.jobs.events("job_1"))


def test_something_that_sends_no_events_is_told_apart(service: StandIn, client: Contextune) -> None:
    service.then(says({}))
    with pytest.raises(contextune.UnexpectedAnswerError, match="sends no events"):
        list(client.jobs.events("job_1"))


def test_batch_is_uploaded_from_a_file_and_from_an_iterable(
    service: StandIn, client: Contextune, tmp_path: Path
) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text\n" + "my card\n" * 50_000)
    batch = ended(kind="batch", counts={"total": 2, "done": 2, "failed": 0})
    service.then(says(batch, 202), says(batch, 202))
    assert client.batches.create("intents@prod", path, top_k=3).counts.total == 2
    client.batches.create("intents", (text for text in ["a", "b"]))
    first, second = service.seen
    assert (first.body, first.headers["content-type"]) == (path.read_bytes(), "text/csv")
    assert first.query == {"context": "intents@prod", "top_k": "3"}
    assert second.body == b'{"text": "a"}\n{"text": "b"}\n'
    assert "idempotency-key" in second.headers


def test_asynchronous_batch_is_uploaded(service: StandIn, tmp_path: Path) -> None:
    service.then(says(job(kind="batch"), 202))

    async def scenario() -> None:
        async with AsyncContextune(service.url) as client:
            assert (await client.batches.create("intents", [("a", "yes")])).kind == "batch"

    asyncio.run(scenario())
    assert service.seen[0].body == b'{"text": "a", "label": "yes"}\n'


def test_adapter_goes_out_and_in(service: StandIn, client: Contextune, tmp_path: Path) -> None:
    path = tmp_path / "adapter.zip"
    service.then(streams("PK", "zip", media_type="application/zip"), says({"context": context(), "job": None}, 201))
    assert client.contexts.export("intents", path) == 5
    assert path.read_bytes() == b"PKzip"
    created = client.contexts.import_(path, name="copy", labels=["yes", {"name": "no"}])
    assert (created.job, created.context.id) == (None, "ctx_1")
    body, kind = service.seen[1].body, service.seen[1].headers["content-type"]
    boundary = body.split(b"\r\n")[0].decode().removeprefix("--")
    assert kind == f"multipart/form-data; boundary={boundary}"
    assert b'name="name"\r\n\r\ncopy\r\n' in body
    assert b'name="labels"\r\n\r\n["yes", {"name": "no"}]\r\n' in body
    assert b'name="file"; filename="adapter.zip"' in body
    assert b"PKzip" in body


def test_export_that_breaks_off_leaves_no_file(service: StandIn, client: Contextune, tmp_path: Path) -> None:
    service.then(lambda: streams("PK", RuntimeError("gone"), media_type="application/zip"))
    with pytest.raises(contextune.ServiceUnreachableError):
        client.contexts.export("intents", tmp_path / "adapter.zip")
    assert list(tmp_path.iterdir()) == []


def test_readiness_is_an_answer_whatever_it_says(service: StandIn, client: Contextune) -> None:
    service.then(says({"status": "not_ready", "checks": {"store": "unavailable"}}, 503))
    readiness = client.ready()
    assert (readiness.ready, readiness.checks) == (False, {"store": "unavailable"})


def test_service_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Contextune(url, retries=FAST) as client, pytest.raises(contextune.ServiceUnreachableError) as caught:
        client.contexts.get("intents")
    assert str(caught.value).startswith(f"{url} does not answer")


def test_answer_that_does_not_come_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        once = RetryPolicy(attempts=1)
        with Contextune(url, timeout=0.2, retries=once) as client, pytest.raises(contextune.RequestTimeoutError):
            client.contexts.get("intents")


def test_url_and_key_come_from_the_environment(service: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTUNE_URL", service.url + "/")
    monkeypatch.setenv("CONTEXTUNE_API_KEY", "ctk_other")
    service.then(says(context()))
    with Contextune() as client:
        assert client.url == service.url
        client.contexts.get("intents")
    assert service.seen[0].headers["authorization"] == "Bearer ctk_other"


def test_without_settings_the_service_is_on_this_machine_and_no_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTEXTUNE_URL", raising=False)
    monkeypatch.delenv("CONTEXTUNE_API_KEY", raising=False)
    with Contextune() as client:
        assert client.url == "http://127.0.0.1:8000"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://"])
def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(contextune.ContextuneError, match="is no address of a service"):
        Contextune(url)


def test_key_is_not_shown() -> None:
    with Contextune(key="ctk_secret") as client:
        assert "ctk_secret" not in repr(client) + repr(client._connection.options)


def test_error_can_be_pickled(service: StandIn, client: Contextune) -> None:
    service.then(says({"code": "context_not_found", "status": 404, "detail": "none"}, 404))
    with pytest.raises(contextune.NotFoundError) as caught:
        client.contexts.get("intents")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.code, copy.status, str(copy)) == ("context_not_found", 404, str(caught.value))


def test_methods_have_the_arguments_and_words_of_their_routes() -> None:
    assert Contexts.create.__doc__ == create.__doc__
