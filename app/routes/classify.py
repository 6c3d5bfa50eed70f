"""``POST /classify``: predict labels with a tuned context."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.classification import answers
from app.classification.batch_calibration import FEWEST, batch_calibrated
from app.contexts.classifying import classify_texts
from app.contract.access import Scope
from app.contract.messages import Scored, Truncate
from app.contract.names import ErrorCode
from app.contract.objects import Context
from app.contract.payload import Payload
from app.contract.texts import MAX_INPUTS, Text
from app.gateway import GatewayDep, RecordsDep
from app.routes.bodies import json_body
from app.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, cancel_on_disconnect
from app.routes.guard import GuardedRoute, needs, take
from app.routes.openapi import BODY, STORE, problems, request_body

router = APIRouter(tags=["classify"], route_class=GuardedRoute)


#: Confidences of an answer that is written in a moment; longer ones are written in a thread.
_FEW_CONFIDENCES: Final = 1024


def _few_enough(inputs: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise PydanticCustomError(
            ErrorCode.TOO_MANY_INPUTS if inputs else ErrorCode.INVALID_REQUEST,
            "{count} inputs given; from 1 to {limit} are allowed",
            {"count": len(inputs), "limit": MAX_INPUTS},
        )
    return inputs


class ClassifyRequest(Payload):
    """Texts to classify with a context. ``truncate`` says what to do with a text that is too long.

    With many labels a context may score the likeliest alone; ``exact`` lets it score all. ``top_k`` is how many labels
    are told, the likeliest first; null is all, in the context's order. Their confidences stay what they are.

    ``batch_calibration`` corrects the confidences by what all inputs of the request seem to be (arXiv 2309.17249). It
    can gain much with few examples, and is for inputs that are as mixed as the labels: each label is taken to be about
    as frequent as the others.
    """

    context: str = Field(min_length=1, max_length=200, description="an id, a name, or name@version")
    inputs: Annotated[
        tuple[Text, ...],
        AfterValidator(_few_enough),
        Field(json_schema_extra={"minItems": 1, "maxItems": MAX_INPUTS}),
    ]
    truncate: Truncate = "NONE"
    min_confidence: float = Field(default=0.0, ge=0, le=1, strict=True)
    exact: bool = Field(default=False, strict=True)
    top_k: int | None = Field(default=None, ge=1, strict=True)
    batch_calibration: bool = Field(default=False, strict=True)

    @model_validator(mode="after")
    def _enough_to_calibrate_by(self) -> ClassifyRequest:
        if self.batch_calibration and len(self.inputs) < FEWEST:
            raise PydanticCustomError(
                ErrorCode.INVALID_REQUEST,
                "needs at least {fewest} inputs; {count} given",
                {"fewest": FEWEST, "count": len(self.inputs), "param": "/batch_calibration"},
            )
        return self


EXAMPLE_BODY = {"context": "support-intents", "inputs": ["my card never came"]}


@router.post(
    "/classify",
    response_model=answers.Answer,
    responses=problems(
        ErrorCode.CONTEXT_NOT_FOUND,
        ErrorCode.CONTEXT_NOT_READY,
        ErrorCode.CONTEXT_FAILED,
        ErrorCode.INPUT_TOO_LONG,
        ErrorCode.TOO_MANY_INPUTS,
        *STORE,
        *BODY,
        ErrorCode.NO_WORKER,
        ErrorCode.BUS_UNAVAILABLE,
        ErrorCode.WORKER_LOST,
        ErrorCode.DEADLINE_EXCEEDED,
    ),
    openapi_extra=request_body(ClassifyRequest, EXAMPLE_BODY),
    dependencies=[needs(Scope.CLASSIFY)],
)
async def classify(
    request: Request,
    body: Annotated[ClassifyRequest, json_body(ClassifyRequest)],
    gateway: GatewayDep,
    records: RecordsDep,
) -> Response:
    """Classify texts. With ``batch_calibration`` answers depend on all inputs of the request, else on nothing else."""
    await take(request, inputs=len(body.inputs))
    work = classify_texts(records, gateway.batcher, body.context, body.truncate, body.inputs, exact=body.exact)
    try:
        context, scored = await cancel_on_disconnect(request, work)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    tokens = sum(one.tokens for one in scored)
    gateway.access.meter.add(records.tenant, len(scored), tokens, context.tokens)
    write = partial(_answer, context, scored, body)
    few = len(scored) * len(context.labels) <= _FEW_CONFIDENCES
    return Response(write() if few else await asyncio.to_thread(write), media_type="application/json")


def _answer(context: Context, scored: Sequence[Scored], body: ClassifyRequest) -> bytes:
    calibrated = batch_calibrated(scored) if body.batch_calibration else scored
    return answers.write(context, calibrated, body.min_confidence, body.top_k)
