"""Streams that go on where they broke off, without a network."""

import json
from typing import Any

import pytest
from contextune.errors import NotFoundError, ServiceUnreachableError, UnexpectedAnswerError, problem_error
from contextune.protocol.retry import PATIENCE_SECONDS
from contextune.protocol.streams import EventFeed, errors, results

from tests.client.answers import AT

GREETING = b": connected\nretry: 1000\n\n"
HEARTBEAT = b": ping\n\n"


def sent(number: int, kind: str = "metrics", **data: Any) -> bytes:
    body = {"id": str(number), "type": kind, "level": "info", "created_at": AT, "message": "", "data": data}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(body)}\n\n".encode()


def ids(feed: EventFeed, *pieces: bytes) -> list[str]:
    return [event.id for piece in pieces for event in feed.take(piece)]


def test_stream_of_events_goes_on_after_the_last_one_until_the_job_has_ended() -> None:
    feed = EventFeed("job_1", lambda: 0.0)
    assert "last-event-id" not in feed.request().headers
    assert ids(feed, GREETING, sent(1, loss=0.5), HEARTBEAT, sent(2, loss=0.5)) == ["1", "2"]
    assert feed.request().headers == {"accept": "text/event-stream", "last-event-id": "2"}
    assert ids(feed, sent(3, "status", status="running")) == ["3"]
    assert not feed.ended
    assert ids(feed, sent(4, "status", status="cancelled") + sent(5)) == ["4"]
    assert feed.ended


def test_event_may_come_in_any_pieces_and_begins_anew_with_its_connection() -> None:
    feed = EventFeed("job_1", lambda: 0.0)
    stream = (GREETING + sent(1, text="a\u2028b") + sent(2)).replace(b"\n", b"\r\n")
    assert ids(feed, *(stream[at : at + 1] for at in range(len(stream)))) == ["1", "2"]
    assert ids(feed, sent(3)[:-9]) == []
    feed.request()
    assert ids(feed, sent(3)) == ["3"]


def test_data_that_is_no_event_is_told() -> None:
    with pytest.raises(UnexpectedAnswerError, match="no Event"):
        ids(EventFeed("job_1", lambda: 0.0), b"data: {}\n\n")


def test_stream_that_was_read_before_goes_on_after_it() -> None:
    assert EventFeed("job_1", lambda: 0.0, after="7").request().headers["last-event-id"] == "7"


def test_stream_is_opened_again_for_as_long_as_waiting_has_patience() -> None:
    clock = 0.0
    feed = EventFeed("job_1", lambda: clock)
    error = ServiceUnreachableError("cut off")
    while clock <= PATIENCE_SECONDS:
        clock += feed.pause(error)
        assert ids(feed, GREETING) == []
    with pytest.raises(ServiceUnreachableError):
        feed.pause(error)
    for alive in (sent(1), HEARTBEAT):
        clock += PATIENCE_SECONDS
        ids(feed, alive)
        assert feed.pause(error) <= 1


def test_stream_of_a_job_that_is_gone_is_not_opened_again() -> None:
    with pytest.raises(NotFoundError):
        EventFeed("job_1", lambda: 0.0).pause(problem_error(404, {"code": "job_not_found"}))


def test_results_go_on_after_the_last_line() -> None:
    feed = results("job_1", lambda: 0.0, None)
    assert feed.request().query == {}
    line = {"index": 4, "id": "a", "prediction": None, "confidence": 0.4, "abstained": True, "labels": {}}
    (entry,) = feed.take(json.dumps(line).encode() + b"\n\n")
    assert (entry.index, entry.id, entry.abstained) == (4, "a", True)
    assert feed.request().query == {"after": "4"}


def test_line_that_is_none_is_told() -> None:
    with pytest.raises(UnexpectedAnswerError, match="no BatchError"):
        list(errors("job_1", lambda: 0.0, None).take(b"<html>\n"))


def test_line_may_come_in_any_pieces_and_the_last_one_without_its_end() -> None:
    feed = results("job_1", lambda: 0.0, None)
    names = ["a\u2028b", "\u2029", "\u0085", "\u20ac"]
    lines = [{"index": at, "id": name, "confidence": 1.0, "labels": {}} for at, name in enumerate(names)]
    body = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    found = [one for at in range(len(body)) for one in feed.take(body[at : at + 1])]
    assert [one.id for one in [*found, *feed.rest()]] == names
