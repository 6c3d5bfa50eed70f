"""Both clients over a real socket: answers that are read piece by piece, and questions that wait, in bad weather."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import contextune
import pytest
from contextune import AsyncContextune, Contextune, RetryPolicy
from starlette.responses import Response

from tests.client.answers import AT, ended, job
from tests.client.standin import StandIn, says, streams

FAST = RetryPolicy(first=0.001)
BUSY = {"code": "overloaded", "status": 503, "detail": "too much"}
GREETING = ": connected\nretry: 1000\n\n"

Ask = Callable[..., Any]


def sync(service: StandIn, what: str, *arguments: Any, **options: Any) -> Any:
    """What a method of the client comes to, such as ``jobs.events``."""
    with Contextune(service.url, retries=FAST) as client:
        noun, verb = what.split(".")
        result = getattr(getattr(client, noun), verb)(*arguments, **options)
        return list(result) if isinstance(result, Iterator) else result


def awaited(service: StandIn, what: str, *arguments: Any, **options: Any) -> Any:
    """As ``sync``, of the asynchronous client."""

    async def scenario() -> Any:
        async with AsyncContextune(service.url, retries=FAST) as client:
            noun, verb = what.split(".")
            result = getattr(getattr(client, noun), verb)(*arguments, **options)
            return [one async for one in result] if isinstance(result, AsyncIterator) else await result

    return asyncio.run(scenario())


both = pytest.mark.parametrize("ask", [sync, awaited])


def event(number: int, kind: str = "metrics", **data: Any) -> dict[str, Any]:
    return {"id": str(number), "type": kind, "level": "info", "created_at": AT, "message": "", "data": data}


def sent(body: dict[str, Any]) -> str:
    return f"id: {body['id']}\nevent: {body['type']}\ndata: {json.dumps(body)}\n\n"


def page(*events: dict[str, Any]) -> Response:
    return says({"object": "list", "data": list(events), "has_more": False, "next": None})


@both
@pytest.mark.parametrize("name", ["a\u2028b", "a\u2029b", "a\u0085b"])
def test_line_ends_with_a_line_feed_and_with_nothing_else(ask: Ask, service: StandIn, name: str) -> None:
    line = {"id": name, "prediction": name, "confidence": 1.0, "labels": {name: {"confidence": 1.0}}}
    text = "\n\n".join(json.dumps({"index": at, **line}, ensure_ascii=False) for at in (0, 1))
    service.then(Response(text.encode(), media_type="application/jsonl"))
    found = ask(service, "batches.results", "job_1")
    assert [(one.index, one.id, one.prediction, list(one.labels)) for one in found] == [
        (at, name, name, [name]) for at in (0, 1)
    ]


def wait(service: StandIn) -> None:
    with Contextune(service.url, retries=FAST) as client:
        client.jobs.cancel("job_1").wait(timeout=0.05)


def wait_asynchronously(service: StandIn) -> None:
    async def scenario() -> None:
        async with AsyncContextune(service.url, retries=FAST) as client:
            await (await client.jobs.cancel("job_1")).wait(timeout=0.05)

    asyncio.run(scenario())


@pytest.mark.parametrize("waiting", [wait, wait_asynchronously])
def test_wait_ends_with_its_timeout_while_the_service_is_away(
    service: StandIn, waiting: Callable[[StandIn], None]
) -> None:
    service.always["/jobs/job_1"] = lambda _seen: says(BUSY, 503, retry_after="9")
    service.then(says(job()))
    with pytest.raises(contextune.RequestTimeoutError, match=r"within 0\.05 seconds") as caught:
        waiting(service)
    assert isinstance(caught.value.__cause__, contextune.ServiceError)


@both
def test_events_after_the_last_one_are_none(ask: Ask, service: StandIn) -> None:
    service.then(streams(GREETING), says(ended()), page())
    assert ask(service, "jobs.events", "job_1", after="4") == []
    stream, asked, rest = service.seen
    assert stream.headers["last-event-id"] == "4"
    assert (asked.path, rest.path, rest.query["after"]) == ("/jobs/job_1", "/jobs/job_1/events", "4")


@both
def test_events_of_a_job_that_ended_while_the_stream_was_closed_are_not_lost(ask: Ask, service: StandIn) -> None:
    last = event(3, "status", status="succeeded")
    service.then(streams(GREETING, sent(event(1))), says(ended()), page(event(2), last))
    assert [one.id for one in ask(service, "jobs.events", "job_1")] == ["1", "2", "3"]
    assert service.seen[-1].query["after"] == "1"


@both
def test_events_go_on_after_a_stream_that_ended_before_the_job(ask: Ask, service: StandIn) -> None:
    last = event(2, "status", status="failed")
    service.then(streams(GREETING, sent(event(1))), says(job()), streams(GREETING, sent(last)))
    assert [one.id for one in ask(service, "jobs.events", "job_1")] == ["1", "2"]
    assert service.seen[-1].headers["last-event-id"] == "1"


@both
def test_export_is_tried_again_until_its_first_byte(ask: Ask, service: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "adapter.zip"
    service.then(
        says(BUSY, 503, retry_after="0"),
        says(BUSY, 429),
        lambda: streams(RuntimeError("gone"), media_type="application/zip"),
        streams("PK", "zip", media_type="application/zip"),
    )
    assert ask(service, "contexts.export", "intents", file) == 5
    assert file.read_bytes() == b"PKzip"
    assert list(tmp_path.iterdir()) == [file]


@both
def test_export_writes_through_a_link_and_keeps_the_mode_and_other_files(
    ask: Ask, service: StandIn, tmp_path: Path
) -> None:
    file, link, other = tmp_path / "adapter.zip", tmp_path / "latest", tmp_path / "latest.partial"
    file.write_bytes(b"before")
    file.chmod(0o604)
    other.write_bytes(b"the user's own")
    link.symlink_to(file.name)
    service.then(streams("PK", media_type="application/zip"))
    assert ask(service, "contexts.export", "intents", link) == 2
    assert (file.read_bytes(), other.read_bytes()) == (b"PK", b"the user's own")
    assert (link.is_symlink(), stat.S_IMODE(file.stat().st_mode)) == (True, 0o604)
    assert len(list(tmp_path.iterdir())) == 3


@both
def test_export_is_tried_four_times_and_not_again_once_it_has_begun(ask: Ask, service: StandIn, tmp_path: Path) -> None:
    service.then(*[says(BUSY, 503)] * 4)
    with pytest.raises(contextune.ServiceError):
        ask(service, "contexts.export", "intents", tmp_path / "adapter.zip")
    assert len(service.seen) == 4
    service.then(lambda: streams("PK", RuntimeError("gone"), media_type="application/zip"))
    with pytest.raises(contextune.ServiceUnreachableError):
        ask(service, "contexts.export", "intents", tmp_path / "adapter.zip")
    assert (len(service.seen), list(tmp_path.iterdir())) == (5, [])
