"""``/contexts``: create, look at, list and delete contexts."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response, status
from fastapi.responses import JSONResponse
from pydantic import Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from app.contexts import contexts
from app.contexts.example_warnings import ExampleWarning, warnings_about
from app.contract.names import ErrorCode, JobStatus
from app.contract.objects import Context, Job
from app.contract.payload import Payload
from app.contract.texts import Characters
from app.contract.tuning import Plan, TuningSpec
from app.errors import DomainError
from app.gateway import GatewayDep, RecordsDep
from app.jobs import jobs
from app.records.contexts import Submission
from app.records.lists import ContextFilter
from app.routes.bodies import json_body
from app.routes.lists import After, Limit, Listing
from app.routes.openapi import BODY, CHANGES, STORE, problems, request_body
from app.routes.query import deep_object, deep_values

router = APIRouter(tags=["contexts"])

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
MetadataKey = Annotated[Characters, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[Characters, StringConstraints(max_length=512)]

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
    """A context to be tuned. Only ``examples`` is required."""

    name: Name | None = None
    model: str | None = Field(default=None, max_length=200, description="null is the first of `GET /models`")
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=16)

    @field_validator("name")
    @classmethod
    def _not_like_an_id(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("ctx_"):
            raise PydanticCustomError(ErrorCode.INVALID_REQUEST, "a name must not begin with ctx_, as ids do")
        return value

    @property
    def spec(self) -> TuningSpec:
        """What decides the tuned context."""
        return TuningSpec.model_construct(**{name: getattr(self, name) for name in TuningSpec.model_fields})


class Created(Payload):
    """A context that was accepted, and the job that tunes it."""

    context: Context
    job: Job


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
        ErrorCode.QUOTA,
        *CHANGES,
        *BODY,
        ErrorCode.NO_WORKER,
        ErrorCode.BUS_UNAVAILABLE,
        ErrorCode.DEADLINE_EXCEEDED,
    )
    | {200: {"model": DryRun, "description": "What the context would need, with `dry_run`"}},
    openapi_extra=request_body(NewContext, EXAMPLE_BODY),
)
async def create_context(
    body: Annotated[NewContext, json_body(NewContext)],
    gateway: GatewayDep,
    records: RecordsDep,
    request: Request,
    response: Response,
    dry_run: Annotated[bool, Query(description="only check the examples and say what they need")] = False,
) -> Created | JSONResponse:
    """Check the examples with a worker, store them, and queue the job that tunes them."""
    model = body.model or gateway.settings.default_model
    if model not in gateway.settings.models:
        raise DomainError(ErrorCode.MODEL_UNKNOWN, "there is no such model; GET /models lists them", "/model")
    spec = body.spec
    plan = await jobs.plan(gateway.bus, model, spec)
    if dry_run:
        needed = DryRun(**dict(plan), model=model, warnings=warnings_about(spec))
        return JSONResponse(needed.model_dump(mode="json"))
    submission = Submission(name=body.name, model=model, spec=spec, plan=plan, metadata=body.metadata)
    stored, job = await jobs.submit(records, gateway.bus, submission)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/jobs/{job.id}"
    return Created(context=stored.context, job=job)


@router.get(
    "/contexts",
    responses=problems(*STORE),
    openapi_extra=deep_object("metadata", "metadata that contexts must have, as `metadata[key]=value`"),
)
def list_contexts(
    records: RecordsDep,
    request: Request,
    limit: Limit = 20,
    after: After = None,
    name: Annotated[str | None, Query(max_length=128)] = None,
    status: JobStatus | None = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
) -> Listing[Context]:
    """List contexts, newest first."""
    metadata = deep_values(request, "metadata")
    page = records.contexts.page(limit, after, ContextFilter(name=name, status=status, model=model, metadata=metadata))
    contexts_ = tuple(stored.context for stored in page.data)
    return Listing[Context](data=contexts_, has_more=page.next is not None, next=page.next)


@router.get("/contexts/{ref}", responses=problems(ErrorCode.CONTEXT_NOT_FOUND, *STORE))
def get_context(ref: str, records: RecordsDep) -> Context:
    """Get a context by its id, its name (the newest version that can answer) or ``name@version``."""
    return contexts.find(records, ref).context


@router.delete(
    "/contexts/{ref}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ErrorCode.CONTEXT_IN_USE, ErrorCode.ARTIFACTS_UNAVAILABLE, *CHANGES),
)
async def delete_context(
    ref: Annotated[str, Path(description="an id; names are not taken")], gateway: GatewayDep, records: RecordsDep
) -> None:
    """Delete a context for good, cancelling its job if that still runs. One that is not there is no fault."""
    if not ref.startswith("ctx_"):
        raise DomainError(ErrorCode.INVALID_REQUEST, "a context is deleted by its id, not by its name", "/ref")
    await asyncio.to_thread(contexts.delete, records, gateway.settings.artifacts_url, ref)
