"""``/jobs``: look at, wait for, cancel and delete jobs, and read their events."""

from __future__ import annotations

from contextune.models.jobs import Event, Job
from contextune.models.listing import Page
from contextune.protocol import call as calling
from contextune.protocol.call import Call, Request, path
from contextune.protocol.call import model as read_model

#: How long an answer may take beyond what it was asked to wait (seconds).
_MARGIN_SECONDS = 30.0


def get(job_id: str, *, wait: float | None = None) -> Call[Job]:
    """Get a job; with ``wait`` as soon as it has ended or so many seconds have passed."""
    read_seconds = wait + _MARGIN_SECONDS if wait else None
    arguments = calling.query(wait=round(wait, 3) if wait else None)
    return Call(Request("GET", path("jobs", job_id), arguments, read_seconds=read_seconds), read_model(Job))


def page(
    *,
    status: str | None = None,
    kind: str | None = None,
    context: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Call[Page[Job]]:
    """Get one page of jobs, newest first."""
    return calling.get(
        "/jobs", read_model(Page[Job]), status=status, kind=kind, context=context, limit=limit, after=after
    )


def cancel(job_id: str) -> Call[Job]:
    """Cancel a job: at once while it is queued, within a step while it runs."""
    return Call(Request("POST", path("jobs", job_id, "cancel")), read_model(Job))


def delete(job_id: str) -> Call[None]:
    """Delete a job that has ended, and its files. Deleting one that is gone is no error."""
    return calling.delete(path("jobs", job_id))


def events_page(job_id: str, *, limit: int | None = None, after: str | None = None) -> Call[Page[Event]]:
    """Get one page of the events of a job."""
    return calling.get(path("jobs", job_id, "events"), read_model(Page[Event]), limit=limit, after=after)


def events_stream(job_id: str, last_event_id: str | None) -> Request:
    """The stream of a job's events (server-sent events), oldest first, after the one with that id."""
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last_event_id} if last_event_id else {})
    return Request("GET", path("jobs", job_id, "events"), headers=headers)
