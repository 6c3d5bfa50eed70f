"""``POST /contexts``: create a context, say what one would need, or make a new version of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import JSONResponse
from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.contexts.example_warnings import ExampleWarning, warnings_about
from app.contexts.lookup import find_spec
from app.contexts.retuning import retuned
from app.contract.access import Scope
from app.contract.names import ErrorCode
from app.contract.objects import Context, Job
from app.contract.payload import Payload
from app.contract.texts import Characters, ContextName
from app.contract.tuning import MAX_EXAMPLES, Example, Plan, TuningSpec
from app.errors import DomainError
from app.gateway import Gateway, GatewayDep, RecordsDep
from app.jobs.planning import plan
from app.jobs.submitting import submit
from app.leftovers import removed_after
from app.records.connection import new_id
from app.records.contexts import Submission
from app.records.store import TenantRecords
from app.routes.bodies import json_body
from app.routes.guard import GuardedRoute, log_ids, needs, note_changed, note_unchanged
from app.routes.idempotency import IdempotencyKey, attempt
from app.routes.openapi import BODY, CHANGES, ONCE, problems, request_body

router = APIRouter(tags=["contexts"], route_class=GuardedRoute)

MetadataKey = Annotated[Characters, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[Characters, StringConstraints(max_length=512)]
ExamplePointer = Annotated[str, StringConstraints(pattern=r"^/examples/(0|[1-9][0-9]{0,5})$")]

EXAMPLE_BODY = {
    "name": "support-intents",
    "examples": [
        {"text": "where is my card?", "label": "card arrival"},
        {"text": "my new card still has not come", "label": "card arrival"},
        {"text": "how do I add my card to the app?", "label": "card linking"},
        {"text": "link an existing card to my account", "label": "card linking"},
    ],
    "hyperparameters": {"method": "cpt", "steps": 20},
    "metadata": {"team": "cards"},
}


class NewContext(TuningSpec):
    """A context to be tuned. Only ``examples`` is required, and with ``base_context`` not even that.

    ``base_context`` is a ref: its examples come first, but for those that ``remove_examples`` points at, and every
    field that is not given is its.
    """

    examples: tuple[Example, ...] = Field(default=(), description="required without base_context")
    name: ContextName | None = None
    model: str | None = Field(default=None, max_length=200, description="null is the first of `GET /models`")
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=16)
    base_context: str | None = Field(default=None, min_length=1, max_length=200)
    remove_examples: tuple[ExamplePointer, ...] = Field(default=(), max_length=MAX_EXAMPLES)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.base_context is not None:
            return self  # only with the base's fields it is a whole
        if "examples" not in self.model_fields_set:
            raise _fault("/examples", "is required without base_context")
        if self.remove_examples:
            raise _fault("/remove_examples", "needs base_context")
        self.check()
        return self

    @property
    def spec(self) -> TuningSpec:
        """What decides the tuned context, where there is no base."""
        return TuningSpec.model_construct(**{name: getattr(self, name) for name in TuningSpec.model_fields})

    @property
    def changes(self) -> dict[str, Any]:
        """The fields of the spec that are given."""
        return {name: getattr(self, name) for name in TuningSpec.model_fields if name in self.model_fields_set}


def _fault(param: str, message: Literal["is required without base_context", "needs base_context"]) -> Exception:
    return PydanticCustomError(ErrorCode.INVALID_REQUEST, message, {"param": param})


class Created(Payload):
    """A context that was accepted, and the job that tunes it; null once that was deleted, and where there is none."""

    context: Context
    job: Job | None


class DryRun(Plan):
    """What a context would need. Nothing was stored or queued."""

    object: Literal["dry_run"] = "dry_run"
    model: str
    warnings: tuple[ExampleWarning, ...]


@router.post(
    "/contexts",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Created,
    responses=problems(
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.TOO_FEW_LABELS,
        ErrorCode.CONTRADICTING_EXAMPLES,
        ErrorCode.MODEL_UNKNOWN,
        ErrorCode.MODEL_UNSUPPORTED,
        ErrorCode.CONTEXT_NOT_FOUND,
        *ONCE,
        ErrorCode.QUOTA,
        *CHANGES,
        *BODY,
        ErrorCode.NO_WORKER,
        ErrorCode.BUS_UNAVAILABLE,
        ErrorCode.DEADLINE_EXCEEDED,
    )
    | {200: {"model": DryRun, "description": "What the context would need, with `dry_run`"}},
    openapi_extra=request_body(NewContext, EXAMPLE_BODY),
    dependencies=[needs(Scope.CONTEXTS_WRITE, change="context.create")],
)
async def create_context(
    body: Annotated[NewContext, json_body(NewContext)],
    gateway: GatewayDep,
    records: RecordsDep,
    request: Request,
    response: Response,
    dry_run: Annotated[bool, Query(description="only check the examples and say what they need")] = False,
    idempotency_key: IdempotencyKey = None,
) -> Created | JSONResponse:
    """Check the examples with a worker, store them, and queue the job that tunes them."""
    context_id, job_id = ids = new_id("ctx"), new_id("job")
    if dry_run:
        note_unchanged(request)
        async with _planned(gateway, records, body, context_id, request.state.request_id) as submission:
            warnings = warnings_about(submission.spec)
            needed = DryRun(**dict(submission.plan), model=submission.model, warnings=warnings)
        return JSONResponse(needed.model_dump(mode="json"))
    async with attempt(records, idempotency_key, "POST /contexts", body) as once:
        if once.before is not None:
            context_id, job_id = json.loads(once.before)
            created = await asyncio.to_thread(_as_now, records, context_id, job_id)
        else:
            async with _planned(gateway, records, body, context_id, request.state.request_id) as submission:
                stored, job = await submit(records, gateway.bus, submission, once.answered(json.dumps(ids)), ids)
            created = Created(context=stored.context, job=job)
    note_changed(request, context_id)
    log_ids({"context_id": context_id, "job_id": job_id})
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/jobs/{job_id}"
    return created


@asynccontextmanager
async def _planned(
    gateway: Gateway, records: TenantRecords, body: NewContext, context_id: str, request_id: str
) -> AsyncIterator[Submission]:
    """What is to be stored, checked by a worker; of what is not, nothing is left. Raises `DomainError`."""
    submission = await asyncio.to_thread(_resolved, gateway, records, body)
    model, specs = submission["model"], records.contexts.specs
    if model not in gateway.settings.models:
        raise DomainError(ErrorCode.MODEL_UNKNOWN, "there is no such model; GET /models lists them", "/model")
    file = await asyncio.to_thread(specs.write, context_id, submission["spec"])
    async with removed_after(partial(specs.release, context_id, file)):
        yield Submission(**submission, plan=await plan(gateway.bus, model, file), file=file, request_id=request_id)


def _resolved(gateway: Gateway, records: TenantRecords, body: NewContext) -> dict[str, Any]:
    """Name, model, spec and metadata, those of the base context where they are not given."""
    default = gateway.settings.default_model
    if body.base_context is None:
        return {"name": body.name, "model": body.model or default, "spec": body.spec, "metadata": body.metadata}
    stored, base = find_spec(records, body.base_context)
    if base is None:
        detail = "this context was imported: the examples that it was made of are not known here"
        raise DomainError(ErrorCode.INVALID_REQUEST, detail, "/base_context")
    context, given = stored.context, body.model_fields_set
    return {
        "name": body.name if "name" in given else context.name,
        "model": body.model or context.model,
        "spec": retuned(base, body.changes, body.remove_examples),
        "metadata": body.metadata if "metadata" in given else context.metadata,
    }


def _as_now(records: TenantRecords, context_id: str, job_id: str) -> Created:
    """What an earlier request created, as it is now. Raises `DomainError` (``deleted``)."""
    stored = records.contexts.get(context_id)
    if stored is None:
        raise DomainError(ErrorCode.DELETED, "the context that this request created was deleted")
    return Created(context=stored.context, job=records.jobs.get(job_id))
