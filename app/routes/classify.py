"""``POST /classify``: predict labels with a tuned context, or with examples or labels that the request brings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final, LiteralString

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.classification import answers
from app.classification.batch_calibration import FEWEST, batch_calibrated
from app.contexts.classifying import classify_plainly, classify_texts
from app.contexts.plain import MAX_PLAIN_EXAMPLES, check_plain, plain_context
from app.contract.access import Scope
from app.contract.messages import Scored, Truncate
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.contract.texts import MAX_INPUTS, Text
from app.contract.tuning import Example, Labels, Template
from app.errors import DomainError
from app.gateway import Gateway, GatewayDep, RecordsDep
from app.records.store import TenantRecords
from app.routes.bodies import json_body
from app.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, cancel_on_disconnect
from app.routes.guard import GuardedRoute, log_ids, needs, take
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
    """Texts to classify with a context, or with examples or labels. ``truncate`` says what to do with a long text.

    ``examples`` stand in a plain context of the base model ``model``, which is kept while it is used and stored
    nowhere; with ``labels`` alone their descriptions stand there (zero-shot). Nothing is tuned then: the same body
    without ``inputs`` and options is one for ``POST /contexts``, which tunes.

    With many labels a context may score the likeliest alone; ``exact`` lets it score all. ``top_k`` is how many labels
    are told, the likeliest first; null is all, in the context's order. Their confidences stay what they are.

    ``batch_calibration`` corrects the confidences by what all inputs of the request seem to be (arXiv 2309.17249). It
    can gain much with few examples, and is for inputs that are as mixed as the labels: each label is taken to be about
    as frequent as the others.
    """

    context: str | None = Field(
        default=None, min_length=1, max_length=200, description="an id, a name, name@version or name@alias"
    )
    examples: Annotated[tuple[Example, ...], Field(json_schema_extra={"maxItems": MAX_PLAIN_EXAMPLES})] | None = None
    labels: Labels | None = Field(default=None, description="those of the examples unless given")
    model: str | None = Field(default=None, min_length=1, max_length=200, description="null is the default base model")
    template: Template | None = None
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

    @model_validator(mode="after")
    def _with_something(self) -> ClassifyRequest:
        brought = {name: getattr(self, name) for name in ("examples", "labels", "model", "template")}
        given = [name for name, value in brought.items() if value is not None]
        if self.context is not None and given:
            raise _fault(f"/{given[0]}", "is not for a context: leave out either")
        if self.examples is not None or self.labels is not None:
            check_plain(self.examples, self.labels)
        elif self.model is not None:
            raise _fault("/model", _MODEL_ALONE)
        elif self.context is None:
            raise _fault("/context", "is required, or `examples`, or `labels`")
        return self


#: What a client of Cohere's sees that was pointed here.
_MODEL_ALONE: Final = (
    "needs `examples` or `labels`; the ref of a context is sent as `context`. A client of Cohere's classify takes the "
    "base URL http://HOST:PORT/compat/cohere"
)


def _fault(param: str, message: LiteralString) -> PydanticCustomError:
    return PydanticCustomError(ErrorCode.INVALID_REQUEST, message, {"param": param})


EXAMPLE_BODY = {"context": "support-intents", "inputs": ["my card never came"]}


@router.post(
    "/classify",
    response_model=answers.Answer,
    responses=problems(
        ErrorCode.CONTEXT_NOT_FOUND,
        ErrorCode.CONTEXT_NOT_READY,
        ErrorCode.CONTEXT_FAILED,
        ErrorCode.FORMAT_UNSUPPORTED,
        ErrorCode.INPUT_TOO_LONG,
        ErrorCode.TOO_MANY_INPUTS,
        ErrorCode.TOO_MANY_EXAMPLES,
        ErrorCode.TOO_FEW_LABELS,
        ErrorCode.CONTRADICTING_EXAMPLES,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.MODEL_UNKNOWN,
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
    try:
        answerer, scored = await cancel_on_disconnect(request, _scored(gateway, records, body))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if answerer.context_id is not None:
        log_ids({"context_id": answerer.context_id})
    tokens = sum(one.tokens for one in scored)
    gateway.access.meter.add(records.tenant, len(scored), tokens, answerer.tokens)
    write = partial(_answer, answerer, scored, body)
    few = len(scored) * len(answerer.labels) <= _FEW_CONFIDENCES
    return Response(write() if few else await asyncio.to_thread(write), media_type="application/json")


async def _scored(
    gateway: Gateway, records: TenantRecords, body: ClassifyRequest
) -> tuple[answers.Answerer, Sequence[Scored]]:
    if body.context is not None:
        asked = body.context, body.truncate, body.inputs
        context, scored = await classify_texts(records, gateway.batcher, *asked, exact=body.exact)
        return answers.Answerer.of(context), scored
    model = body.model or gateway.settings.default_model
    if model not in gateway.settings.models:
        raise DomainError(ErrorCode.MODEL_UNKNOWN, "there is no such model; GET /models lists them", "/model")
    plain = plain_context(body.examples, body.labels, body.template)
    scored, tokens = await classify_plainly(gateway.batcher, model, plain, body.truncate, body.inputs)
    return answers.Answerer(model, tuple(label.name for label in plain.labels), tokens), scored


def _answer(answerer: answers.Answerer, scored: Sequence[Scored], body: ClassifyRequest) -> bytes:
    calibrated = batch_calibrated(scored) if body.batch_calibration else scored
    return answers.write(answerer, calibrated, body.min_confidence, body.top_k)
