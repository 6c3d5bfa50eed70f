"""``/models`` and ``/health``."""

from __future__ import annotations

from contextune.errors import UnexpectedAnswerError
from contextune.models.listing import Page
from contextune.models.service import BaseModelInfo, Readiness
from contextune.protocol.call import Call, Reply, Request
from contextune.protocol.call import model as read_model


def models() -> Call[Page[BaseModelInfo]]:
    """Get the base models and the other names that ``model`` may be; the first is the default."""
    return Call(Request("GET", "/models"), read_model(Page[BaseModelInfo]), whole=True)


def ready() -> Call[Readiness]:
    """Ask whether the service can answer."""
    return Call(Request("GET", "/health/ready"), read_model(Readiness), also_status=503)


def live() -> Call[bool]:
    """Ask whether the service runs at all."""
    return Call(Request("GET", "/health/live"), _is_alive)


def _is_alive(reply: Reply) -> bool:
    if b'"ok"' not in reply.content:
        raise UnexpectedAnswerError("what listens there is not this service")
    return True
