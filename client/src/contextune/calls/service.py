"""``/models`` and ``/health``."""

from __future__ import annotations

import json

from contextune.errors import UnexpectedAnswerError
from contextune.models.service import BaseModelInfo, ModelPage, Readiness
from contextune.protocol.call import Call, Reply, Request, path
from contextune.protocol.call import model as read_model


def models() -> Call[ModelPage]:
    """Get the base models and the other names that ``model`` may be; the first is the default."""
    return Call(Request("GET", "/models"), read_model(ModelPage), whole=True)


def get_model(model: str) -> Call[BaseModelInfo]:
    """Find one of them."""
    return Call(Request("GET", path("models", model)), read_model(BaseModelInfo))


def ready() -> Call[Readiness]:
    """Ask whether the service can answer."""
    return Call(Request("GET", "/health/ready"), read_model(Readiness), also_status=503)


def live() -> Call[bool]:
    """Ask whether the service runs at all."""
    return Call(Request("GET", "/health/live"), _is_alive)


def release() -> Call[str]:
    """Ask of which release the service is."""
    return Call(Request("GET", "/openapi.json"), _release)


def _release(reply: Reply) -> str:
    try:
        return str(json.loads(reply.content)["info"]["version"])
    except (ValueError, KeyError, TypeError):
        raise UnexpectedAnswerError("what listens there is not this service") from None


def _is_alive(reply: Reply) -> bool:
    if b'"ok"' not in reply.content:
        raise UnexpectedAnswerError("what listens there is not this service")
    return True
