"""``GET /models``: the base models of the allow-list, names that stand for them, and the tenant's contexts.

One whole answer for every reader: ours, OpenAI's in the entries of ``data``, System One's in ``models`` beside it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, Literal

from fastapi import APIRouter

from app.contract.access import Scope
from app.contract.messages import DeviceState
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.errors import DomainError
from app.gateway import Gateway, GatewayDep, RecordsDep
from app.records.rows import NamedContext
from app.records.store import TenantRecords
from app.routes.guard import GuardedRoute, needs
from app.routes.lists import Listing
from app.routes.openapi import STORE, problems

router = APIRouter(tags=["models"], route_class=GuardedRoute)

#: Names of contexts that are told, the newest.
MOST_CONTEXTS: Final = 1_000
#: Labels that the description of a context names, at most.
_MOST_LABELS: Final = 8
_OWNER: Final = "contextune"


class ModelInfo(Payload):
    """What may be given as ``model``: a base model, a name for one, or a context, which ``base_model`` then names.

    ``parameters``, ``context_length`` (tokens) and ``device`` are those of the base model, null while no worker serves
    it. ``devices`` has one entry a worker, with the device's memory in bytes; ``device`` is the first of them.
    ``created`` is in seconds since 1970: of a context when it was made, of a model since when it is served here.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = _OWNER
    kind: Literal["base_model", "name", "context"]
    base_model: str
    parameters: int | None
    context_length: int | None
    device: str | None
    devices: tuple[DeviceState, ...]
    workers: int
    resident_contexts: int


class SystemOneModel(Payload):
    """A model as System One's clients read it."""

    name: str
    description: str
    release_date: str


class Models(Listing[ModelInfo]):
    """All models, the default first; ``models`` are the same in System One's form."""

    models: tuple[SystemOneModel, ...]


@router.get("/models", responses=problems(*STORE), dependencies=[needs(Scope.READ, Scope.CLASSIFY)])
async def list_models(gateway: GatewayDep, records: RecordsDep) -> Models:
    """List what may be given as a model: base models, the default first, names for them, and contexts."""
    contexts = await named_contexts(records)
    infos = tuple(_infos(gateway, contexts))
    described = {one.name: _described(one) for one in contexts}
    models = tuple(
        SystemOneModel(
            name=one.id,
            description=described.get(one.id) or f"base model {one.base_model}",
            release_date=f"{datetime.fromtimestamp(one.created, UTC):%Y-%m-%d}",
        )
        for one in infos
    )
    return Models(data=infos, has_more=False, next=None, models=models)


@router.get(
    "/models/{model:path}",
    responses=problems(ErrorCode.MODEL_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *STORE),
    dependencies=[needs(Scope.READ, Scope.CLASSIFY)],
)
async def get_model(model: str, gateway: GatewayDep, records: RecordsDep) -> ModelInfo:
    """Find a base model, a name for one, or a context by its name."""
    for one in _infos(gateway, await asyncio.to_thread(_context_named, records, model)):
        if one.id == model:
            return one
    raise DomainError(ErrorCode.MODEL_NOT_FOUND, "there is no such model; GET /models lists them")


async def named_contexts(records: TenantRecords) -> list[NamedContext]:
    """The newest names of contexts that can answer."""
    return await asyncio.to_thread(records.contexts.named, MOST_CONTEXTS)


def _context_named(records: TenantRecords, name: str) -> list[NamedContext]:
    """The context that answers by a name, where there is one."""
    stored = None if "@" in name or name.startswith("ctx_") else records.contexts.resolve(name, report=False)
    if stored is None or stored.artifact is None:
        return []
    context = stored.context
    return [NamedContext(name, context.model, context.labels, context.metadata, context.created_at)]


def _infos(gateway: Gateway, contexts: list[NamedContext]) -> list[ModelInfo]:
    """A context comes before what has its name: it is what answers."""
    settings = gateway.settings
    own = {model: _served(gateway, model) for model in settings.models}
    since = int(gateway.started_at.timestamp())
    taken = {one.name for one in contexts}
    models = [(model, model, since, "base_model") for model in settings.models]
    names = [(name, model, since, "name") for name, model in settings.base_models.items() if name not in own]
    tuned = [(one.name, one.model, int(one.created_at.timestamp()), "context") for one in contexts]
    free = [*models, *(one for one in names if one[0] not in taken)]
    found = []
    for name, base, created, kind in (*free, *tuned):
        served = own.get(base) or _served(gateway, base)
        found.append(
            ModelInfo.model_validate({"id": name, "base_model": base, "created": created, "kind": kind} | served)
        )
    return found


def _served(gateway: Gateway, model: str) -> dict[str, Any]:
    ready = [one for one in gateway.bus.announcements(model) if one.ready]
    devices = tuple(one.device for one in ready if one.device is not None)
    return {
        "parameters": ready[0].parameters if ready else None,
        "context_length": ready[0].context_length if ready else None,
        "device": devices[0].id if devices else None,
        "devices": devices,
        "workers": len(ready),
        "resident_contexts": sum(one.resident_contexts for one in ready),
    }


def _described(context: NamedContext) -> str:
    """Its description, or what it tells apart."""
    labels = ", ".join(context.labels[:_MOST_LABELS])
    more = ", …" if len(context.labels) > _MOST_LABELS else ""
    return context.metadata.get("description") or f"{context.name} tells apart {labels}{more}"
