"""Doors: ``/v1/decisions`` (OpenAI), ``/v1/systemone`` (TypeSafe), Cohere's ``/v1/classify``, answered by contexts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from app.compat import cohere, openai, systemone
from app.compat.answering import Answered, answer_questions
from app.compat.questions import Unanswerable
from app.compat.texts import Unreadable
from app.contexts.classifying import classify_texts
from app.contract.access import Scope
from app.contract.names import ErrorCode
from app.errors import DomainError
from app.gateway import GatewayDep, RecordsDep
from app.records.connection import new_id
from app.routes.bodies import json_body
from app.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, cancel_on_disconnect
from app.routes.guard import GuardedRoute, needs, take
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
)
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


@router.post(
    "/v1/decisions",
    responses=_RESPONSES,
    openapi_extra=request_body(openai.DecisionRequest, DECISION_EXAMPLE),
    dependencies=[needs(Scope.CLASSIFY)],
)
@aliases.post("/decisions", dependencies=[needs(Scope.CLASSIFY)])
async def decide(
    request: Request,
    body: Annotated[openai.DecisionRequest, json_body(openai.DecisionRequest)],
    gateway: GatewayDep,
    records: RecordsDep,
    min_confidence: MinConfidence = None,
) -> Response:
    """Answer OpenAI's decisions with contexts: `model` is a context's ref, or a list of questions and their contexts.

    The choices are the context's labels, or some of them. What the context was taught decides; instructions and
    descriptions change nothing. An answer whose probability is too low is a refusal.
    """
    questions, text = _read(lambda: (openai.questions_of(body), openai.text_of(body)[0]))
    await take(request, inputs=1)
    asking = answer_questions(records, gateway.batcher, body.model, text, questions, min_confidence)
    answered = await _unless_gone(request, asking)
    if answered is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    _count(gateway, records, answered)
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
    """Answer System One's questions with contexts: `model` is a context's ref, or a list of questions and contexts."""
    questions = _read(lambda: systemone.questions_of(body))
    await take(request, inputs=1)
    asking = answer_questions(records, gateway.batcher, body.model, systemone.text_of(body), questions, 0.0)
    answered = await _unless_gone(request, asking)
    if answered is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    _count(gateway, records, answered)
    answers = {
        name: systemone.answer(question, asked, p or ())
        for (name, asked), question, p in zip(body.questions.items(), questions, answered.probabilities, strict=True)
    }
    return JSONResponse(
        systemone.response(body.model, answers, answered.tokens),
        headers={"x-typesafe-request-id": request.state.request_id},
    )


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
    """Answer Cohere's classify with a context as its `model`."""
    if body.examples is not None or body.model is None:
        text = "send the ref of a context as `model`, without `examples`; POST /contexts teaches one from examples"
        raise DomainError(ErrorCode.INVALID_REQUEST, text, "/model" if body.model is None else "/examples")
    await take(request, inputs=len(body.inputs))
    work = classify_texts(records, gateway.batcher, body.model, body.truncate or "END", body.inputs)
    found = await _unless_gone(request, work)
    if found is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    context, scored = found
    gateway.access.meter.add(records.tenant, len(scored), sum(one.tokens for one in scored), context.tokens)
    entries = [
        cohere.classification(new_id("cls"), text, context.labels, one.confidences)
        for text, one in zip(body.inputs, scored, strict=True)
    ]
    return JSONResponse(cohere.response(new_id("cls"), entries, body))


def _read(translate: Callable[[], T]) -> T:
    """What a request asks. Raises `DomainError` for what a door cannot read."""
    try:
        return translate()
    except (Unreadable, Unanswerable) as error:
        raise DomainError(ErrorCode.INVALID_REQUEST, str(error)) from error


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    try:
        return await cancel_on_disconnect(request, work)
    except ClientGone:
        return None


def _count(gateway: GatewayDep, records: RecordsDep, answered: Answered) -> None:
    for context, tokens in answered.contexts:
        gateway.access.meter.add(records.tenant, 1, tokens, context.tokens)
