"""Doors: ``/v1/decisions`` (OpenAI), ``/v1/systemone`` (TypeSafe), Cohere's ``/v1/classify`` and its list of models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from app.compat import cohere, openai, systemone
from app.compat.answering import Answered, Answering, Asked
from app.compat.questions import Unanswerable
from app.compat.texts import Unreadable
from app.contexts.classifying import classify_plainly, classify_texts
from app.contexts.plain import plain_context
from app.contract.access import Scope
from app.contract.messages import Scored
from app.contract.names import ErrorCode
from app.errors import DomainError
from app.gateway import Gateway, GatewayDep, RecordsDep
from app.records.connection import new_id
from app.records.store import TenantRecords
from app.routes.bodies import json_body
from app.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, cancel_on_disconnect
from app.routes.guard import GuardedRoute, needs, take
from app.routes.models import named_contexts
from app.routes.openapi import BODY, STORE, problems, request_body

router = APIRouter(tags=["doors"], route_class=GuardedRoute)
aliases = APIRouter(route_class=GuardedRoute, include_in_schema=False)

T = TypeVar("T")

MinConfidence = Annotated[
    float | None, Header(alias="Contextune-Min-Confidence", ge=0, le=1, description="below it the answer is a refusal")
]
_RESPONSES: Final = problems(
    ErrorCode.MODEL_NOT_FOUND,
    ErrorCode.LABEL_UNKNOWN,
    ErrorCode.CONTEXT_NOT_READY,
    ErrorCode.CONTEXT_FAILED,
    ErrorCode.INPUT_TOO_LONG,
    *STORE,
    *BODY,
    ErrorCode.NO_WORKER,
    ErrorCode.BUS_UNAVAILABLE,
    ErrorCode.WORKER_LOST,
    ErrorCode.DEADLINE_EXCEEDED,
    ErrorCode.WARMING_UP,
)
#: System One's clients give up after 10 s.
_SECONDS_TO_ANSWER: Final = 8.0
#: What a client is told to wait then: its question goes on being read.
_WARMING_SECONDS: Final = 5.0
DECISION_EXAMPLE: Final[dict[str, Any]] = {
    "model": "support-intents@prod",
    "input": "my card never came",
    "questions": [
        {
            "type": "choice",
            "name": "intent",
            "instructions": "What does the customer want?",
            "choices": [{"value": "card arrival"}, {"value": "card linking"}],
        }
    ],
}
SYSTEM_ONE_EXAMPLE: Final[dict[str, Any]] = {
    "model": "support-intents@prod",
    "state": "my card never came",
    "questions": {"intent": {"type": "choice", "criteria": {"card arrival": None, "card linking": None}}},
}
COHERE_EXAMPLE: Final[dict[str, Any]] = {"model": "support-intents@prod", "inputs": ["my card never came"]}


def _kind(request: Request, content: Any) -> type[openai.DecisionRequest | systemone.SystemOneRequest]:
    """Perplexity's decisions have System One's body, so they get its answers and errors."""
    if isinstance(content, dict) and "state" in content:
        request.state.door = "/v1/systemone"
        return systemone.SystemOneRequest
    return openai.DecisionRequest


@router.post(
    "/v1/decisions",
    responses=_RESPONSES,
    openapi_extra=request_body(openai.DecisionRequest, DECISION_EXAMPLE),
    dependencies=[needs(Scope.CLASSIFY)],
)
@aliases.post("/decisions", dependencies=[needs(Scope.CLASSIFY)])
async def decide(
    request: Request,
    body: Annotated[Any, json_body(openai.DecisionRequest, _kind)],
    gateway: GatewayDep,
    records: RecordsDep,
    min_confidence: MinConfidence = None,
) -> Response:
    """Answer OpenAI's decisions; a body with `state` is one for `/v1/systemone`, as Perplexity's clients send.

    `model` is a context's ref, whose labels, or some of them, are the choices; or a base model, or a name for one,
    which answers from instructions and descriptions (zero-shot); or a list of questions and what answers them. What a
    context was taught decides: instructions and descriptions change nothing there. Too unsure an answer is a refusal.
    """
    if isinstance(body, systemone.SystemOneRequest):
        return await system_one(request, body, gateway, records)
    questions = _read(lambda: openai.questions_of(body), "/questions")
    text, instructions = _read(lambda: openai.text_of(body), "/input")
    asked = Asked(text, questions, "/input", instructions, min_confidence)
    answered = await _answered(request, gateway, records, body.model, asked)
    if answered is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    answers = [openai.answer(one, p) for one, p in zip(questions, answered.probabilities, strict=True)]
    return JSONResponse(openai.decision(body.model, answers, answered.tokens))


@router.post(
    "/v1/systemone",
    responses=_RESPONSES,
    openapi_extra=request_body(systemone.SystemOneRequest, SYSTEM_ONE_EXAMPLE),
    dependencies=[needs(Scope.CLASSIFY)],
)
@aliases.post("/systemone", dependencies=[needs(Scope.CLASSIFY)])
async def system_one(
    request: Request,
    body: Annotated[systemone.SystemOneRequest, json_body(systemone.SystemOneRequest)],
    gateway: GatewayDep,
    records: RecordsDep,
) -> Response:
    """Answer System One's questions with a context, a base model, or a list of questions and what answers them."""
    questions = _read(lambda: systemone.questions_of(body), "/questions")
    asked = Asked(systemone.text_of(body), questions, "/state", min_confidence=0.0)
    try:
        async with asyncio.timeout(_SECONDS_TO_ANSWER):
            answered = await _answered(request, gateway, records, body.model, asked)
    except TimeoutError:
        text = f"no answer within {_SECONDS_TO_ANSWER:.0f} s; what is read meanwhile is kept"
        raise DomainError(ErrorCode.WARMING_UP, text, retry_after=_WARMING_SECONDS) from None
    if answered is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    answers = {
        name: systemone.answer(question, asked, p or ())
        for (name, asked), question, p in zip(body.questions.items(), questions, answered.probabilities, strict=True)
    }
    return JSONResponse(systemone.response(body.model, answers, answered.tokens))


@router.post(
    "/compat/cohere/v1/classify",
    responses=_RESPONSES,
    openapi_extra=request_body(cohere.CohereRequest, COHERE_EXAMPLE),
    dependencies=[needs(Scope.CLASSIFY)],
)
async def cohere_classify(
    request: Request,
    body: Annotated[cohere.CohereRequest, json_body(cohere.CohereRequest)],
    gateway: GatewayDep,
    records: RecordsDep,
) -> Response:
    """Answer Cohere's classify with a context as its `model`, or with `examples` and a base model."""
    await take(request, inputs=len(body.inputs))
    found = await _unless_gone(request, _cohere_scored(gateway, records, body))
    if found is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    labels, scored, context_tokens = found
    gateway.access.meter.add(records.tenant, len(scored), sum(one.tokens for one in scored), context_tokens)
    entries = [
        cohere.classification(new_id("cls"), text, labels, one.confidences)
        for text, one in zip(body.inputs, scored, strict=True)
    ]
    return JSONResponse(cohere.response(new_id("cls"), entries, body))


async def _cohere_scored(
    gateway: Gateway, records: TenantRecords, body: cohere.CohereRequest
) -> tuple[tuple[str, ...], Sequence[Scored], int]:
    """Labels, the answers to all inputs, and the tokens of what answered."""
    truncate, bases = body.truncate or "END", gateway.settings.base_models
    if body.examples is not None:
        base = bases.get(body.model or gateway.settings.default_model)
        if base is None:
            text = "with `examples`, `model` is a base model or left out; a context brings its own examples"
            raise DomainError(ErrorCode.INVALID_REQUEST, text, "/model")
        plain = plain_context(body.examples, None, None)
        answered = await classify_plainly(gateway.batcher, base, plain, truncate, body.inputs)
        return tuple(label.name for label in plain.labels), answered.scored, answered.context_tokens
    if body.model is None or body.model in bases:
        text = "send `examples`, or the ref of a context as `model`"
        raise DomainError(ErrorCode.INVALID_REQUEST, text, "/examples")
    context, scored = await classify_texts(records, gateway.batcher, body.model, truncate, body.inputs)
    return context.labels, scored, context.tokens


@router.get(
    "/compat/cohere/v1/models",
    responses=problems(*STORE),
    dependencies=[needs(Scope.READ, Scope.CLASSIFY)],
)
async def cohere_models(
    gateway: GatewayDep,
    records: RecordsDep,
    page_size: Annotated[str | None, Query(description="changes nothing: the list is whole")] = None,  # noqa: ARG001
    page_token: Annotated[str | None, Query(description="changes nothing")] = None,  # noqa: ARG001
    endpoint: Annotated[str | None, Query(description="nothing is listed for another than `classify`")] = None,
    default_only: Annotated[str | None, Query(description="changes nothing")] = None,  # noqa: ARG001
) -> Response:
    """List base models and contexts as Cohere's clients read them, all in one answer."""
    if endpoint not in (None, "classify"):
        return JSONResponse(cohere.models((), ()))
    contexts = [one.name for one in await named_contexts(records)]
    return JSONResponse(cohere.models(gateway.settings.base_models, contexts))


def _read(translate: Callable[[], T], param: str) -> T:
    """What a request asks at ``param``. Raises `DomainError` for what a door cannot read."""
    try:
        return translate()
    except (Unreadable, Unanswerable) as error:
        raise DomainError(ErrorCode.INVALID_REQUEST, str(error), param) from error


async def _answered(
    request: Request, gateway: Gateway, records: TenantRecords, model: str, asked: Asked
) -> Answered | None:
    """The answers, counted as one input however many questions there are; None once the client has gone."""
    await take(request, inputs=1)
    answering = Answering(records, gateway.batcher, gateway.settings.base_models)
    answered = await _unless_gone(request, answering.answer(model, asked))
    if answered is not None:
        gateway.access.meter.add(records.tenant, 1, answered.tokens, answered.context_tokens)
    return answered


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    try:
        return await cancel_on_disconnect(request, work)
    except ClientGone:
        return None
