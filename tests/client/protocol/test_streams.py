"""Streams that go on where they broke off, without a network."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from contextune.errors import NotFoundError, ServiceUnreachableError, UnexpectedAnswerError, problem_error
from contextune.protocol.retry import PATIENCE_SECONDS
from contextune.protocol.streams import EventFeed, errors, results

from tests.client.answers import AT


@dataclass
class Sent:
    """A server-sent event."""

    id: str
    data: str


def sent(number: int, kind: str = "metrics", **data: Any) -> Sent:
    body = {"id": str(number), "type": kind, "level": "info", "created_at": AT, "message": "", "data": data}
    return Sent(str(number), json.dumps(body))


def test_stream_of_events_goes_on_after_the_last_one_until_the_job_has_ended() -> None:
    feed = EventFeed("job_1", lambda: 0.0)
    assert "last-event-id" not in feed.request().headers
    assert [feed.take(sent(number, loss=0.5)) is not None for number in (1, 2)] == [True, True]
    assert feed.take(Sent("", "")) is None
    assert feed.request().headers == {"accept": "text/event-stream", "last-event-id": "2"}
    feed.take(sent(3, "status", status="running"))
    assert not feed.ended
    feed.take(sent(4, "status", status="cancelled"))
    assert feed.ended


def test_stream_that_was_read_before_goes_on_after_it() -> None:
    assert EventFeed("job_1", lambda: 0.0, after="7").request().headers["last-event-id"] == "7"


def test_stream_is_opened_again_for_as_long_as_waiting_has_patience() -> None:
    clock = 0.0
    feed = EventFeed("job_1", lambda: clock)
    error = ServiceUnreachableError("cut off")
    while clock <= PATIENCE_SECONDS:
        clock += feed.pause(error)
    with pytest.raises(ServiceUnreachableError):
        feed.pause(error)
    feed.take(sent(1))
    assert feed.pause(error) <= 1


def test_stream_of_a_job_that_is_gone_is_not_opened_again() -> None:
    with pytest.raises(NotFoundError):
        EventFeed("job_1", lambda: 0.0).pause(problem_error(404, {"code": "job_not_found"}))


def test_results_go_on_after_the_last_line() -> None:
    feed = results("job_1", lambda: 0.0, None)
    assert feed.request().query == {}
    line = {"index": 4, "id": "a", "prediction": None, "confidence": 0.4, "abstained": True, "labels": {}}
    entry = feed.take(json.dumps(line))
    assert entry is not None
    assert (entry.index, entry.id, entry.abstained) == (4, "a", True)
    assert feed.take("") is None
    assert feed.request().query == {"after": "4"}


def test_line_that_is_none_is_told() -> None:
    with pytest.raises(UnexpectedAnswerError, match="no BatchError"):
        errors("job_1", lambda: 0.0, None).take("<html>")
