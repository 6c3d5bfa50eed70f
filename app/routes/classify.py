"""``POST /classify``: predict labels with a tuned context."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app import contexts
from app.batcher import Refused
from app.bus import DeadlineExceeded
from app.contract.batches import Scored, Truncate
from app.contract.names import ErrorCode
from app.contract.payload import Model
from app.contract.tuning import MAX_INPUTS, Text
from app.disconnect import ClientGone, unless_gone
from app.errors import Problem
from app.gateway import GatewayDep
from app.records.store import new_id
from app.routes.problems import problems

router = APIRouter(tags=["classify"])

#: The status in the log of a request whose client hung up; nginx's.
_CLIENT_CLOSED_REQUEST: Final = 499


def _few_enough(inputs: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise PydanticCustomError(
            ErrorCode.TOO_MANY_INPUTS if inputs else ErrorCode.INVALID_REQUEST,
            "{count} inputs given; from 1 to {limit} are allowed",
            {"count": len(inputs), "limit": MAX_INPUTS},
        )
    return inputs


class ClassifyRequest(Model):
    """Texts to classify with a context. ``truncate`` says what to do with a text that is too long."""

    context: str = Field(min_length=1, max_length=200, description="an id, a name, or name@version")
    inputs: Annotated[tuple[Text, ...], AfterValidator(_few_enough)]
    truncate: Truncate = "NONE"
    min_confidence: float = Field(default=0.0, ge=0, le=1)


class LabelConfidence(Model):
    """How probable a label is."""

    confidence: float


class Classification(Model):
    """The answer to one input. When ``abstained``, no label reached ``min_confidence`` and ``prediction`` is null."""

    index: int
    prediction: str | None
    confidence: float
    abstained: bool
    truncated: bool
    labels: dict[str, LabelConfidence]


class Usage(Model):
    """Tokens that the answer took."""

    input_tokens: int
    context_tokens: int


class Answer(Model):
    """The answers to all inputs, in their order."""

    id: str
    context_id: str
    context_version: int
    model: str
    classifications: tuple[Classification, ...]
    usage: Usage


EXAMPLE_BODY = {"context": "support-intents", "inputs": ["my card never came"]}


def _classification(index: int, labels: tuple[str, ...], scored: Scored, min_confidence: float) -> Classification:
    best = max(range(len(labels)), key=scored.confidences.__getitem__)
    confidence = scored.confidences[best]
    abstained = confidence < min_confidence
    return Classification(
        index=index,
        prediction=None if abstained else labels[best],
        confidence=confidence,
        abstained=abstained,
        truncated=scored.truncated,
        labels={
            label: LabelConfidence(confidence=value) for label, value in zip(labels, scored.confidences, strict=True)
        },
    )


@router.post(
    "/classify",
    response_model=Answer,
    responses=problems(
        ErrorCode.CONTEXT_NOT_FOUND,
        ErrorCode.CONTEXT_NOT_READY,
        ErrorCode.INPUT_TOO_LONG,
        ErrorCode.TOO_MANY_INPUTS,
        ErrorCode.BODY_TOO_LARGE,
        ErrorCode.OVERLOADED,
        ErrorCode.NO_WORKER,
        ErrorCode.BUS_UNAVAILABLE,
        ErrorCode.WORKER_LOST,
        ErrorCode.DEADLINE_EXCEEDED,
    ),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE_BODY}}}},
)
async def classify(request: Request, body: ClassifyRequest, gateway: GatewayDep) -> Response:
    """Classify texts. An answer does not depend on what else was in the request, or in the batch."""
    try:
        async with asyncio.timeout(gateway.batcher.seconds_for(len(body.inputs))):
            stored, artifact = await asyncio.to_thread(contexts.find_ready, gateway.records, body.context)
            context = stored.context
            work = gateway.batcher.classify(context.model, artifact, body.truncate, body.inputs)
            scored = await unless_gone(request, work)
    except ClientGone:
        return Response(status_code=_CLIENT_CLOSED_REQUEST)
    except TimeoutError:
        raise DeadlineExceeded from None
    except Refused as refused:
        if refused.failure.code == ErrorCode.CONTEXT_NOT_FOUND:  # its artifact is gone: deleted meanwhile, or lost?
            await asyncio.to_thread(contexts.find_ready, gateway.records, context.id)
            raise Problem(ErrorCode.ARTIFACT_CORRUPT, "the context's artifact is missing", "/context") from refused
        raise
    answer = Answer(
        id=new_id("cls"),
        context_id=context.id,
        context_version=context.version,
        model=context.model,
        classifications=tuple(
            _classification(index, context.labels, one, body.min_confidence) for index, one in enumerate(scored)
        ),
        usage=Usage(input_tokens=sum(one.tokens for one in scored), context_tokens=context.tokens),
    )
    # Written here, since FastAPI would validate once more what is valid.
    return Response(answer.model_dump_json(), media_type="application/json")
