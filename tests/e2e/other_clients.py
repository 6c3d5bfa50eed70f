"""The real clients of other services, unpatched but for base URL and key, each asked the same in its own words."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import cohere
import cohere.core
import cohere.errors
import openai
import typesafe_sdk
from typesafe_sdk import AsyncTypeSafeClient, Choice, RetryPolicy, TypeSafeClient

#: Two of each label, as Cohere asks for; for a base model alone.
SHOWN = [("my card is late", "card"), ("a new card", "card"), ("repay it", "loan"), ("borrow money", "loan")]
Probabilities = dict[str, float]


@dataclass(frozen=True)
class Client:
    """A client of another service, and the exceptions that it raises by the status of a refusal.

    ``ask`` takes a base URL, a key, a model, a text and labels; with ``shown`` Cohere's brings examples.
    """

    name: str
    ask: Callable[..., Probabilities]
    errors: Mapping[int, type[Exception]]

    def __str__(self) -> str:
        return self.name


def _question(labels: Sequence[str]) -> Any:
    return {"type": "choice", "instructions": "Which?", "choices": [{"value": label} for label in labels]}


def _read_openai(decision: Any) -> Probabilities:
    answer = cast("dict[str, Any]", decision.answers[0].to_dict())
    return {one["value"]: one["probability"] for one in answer["probabilities"]}


def _openai(url: str, key: str, model: str, text: str, labels: Sequence[str], *, shown: bool = False) -> Probabilities:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        return _read_openai(client.decisions.create(model=model, input=text, questions=[_question(labels)]))


async def _openai_async(
    url: str, key: str, model: str, text: str, labels: Sequence[str], *, shown: bool = False
) -> Probabilities:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        return _read_openai(await client.decisions.create(model=model, input=text, questions=[_question(labels)]))


def _system_one(
    url: str, key: str, model: str, text: str, labels: Sequence[str], *, shown: bool = False
) -> Probabilities:
    asked = {"q": Choice(criteria=dict.fromkeys(labels))}
    with TypeSafeClient(base_url=url, api_key=key, retry=RetryPolicy(max_retries=0)) as client:
        return dict(client.system_one(state=text, model=model, questions=asked).choices["q"].probabilities)


async def _system_one_async(
    url: str, key: str, model: str, text: str, labels: Sequence[str], *, shown: bool = False
) -> Probabilities:
    asked = {"q": Choice(criteria=dict.fromkeys(labels))}
    async with AsyncTypeSafeClient(base_url=url, api_key=key, retry=RetryPolicy(max_retries=0)) as client:
        return dict((await client.system_one(state=text, model=model, questions=asked)).choices["q"].probabilities)


def _cohere_asked(model: str, text: str, shown: bool) -> dict[str, Any]:
    examples = [cohere.ClassifyExample(text=said, label=label) for said, label in SHOWN]
    asked: dict[str, Any] = {"model": model, "inputs": [text], "request_options": {"max_retries": 0}}
    return asked | ({"examples": examples} if shown else {})


def _read_cohere(answered: Any) -> Probabilities:
    return {label: value.confidence for label, value in answered.classifications[0].labels.items()}


def _cohere(url: str, key: str, model: str, text: str, labels: Sequence[str], *, shown: bool = False) -> Probabilities:
    with cohere.Client(api_key=key, base_url=f"{url}/compat/cohere") as client:
        return _read_cohere(client.classify(**_cohere_asked(model, text, shown)))


async def _cohere_async(
    url: str, key: str, model: str, text: str, labels: Sequence[str], *, shown: bool = False
) -> Probabilities:
    async with cohere.AsyncClient(api_key=key, base_url=f"{url}/compat/cohere") as client:
        return _read_cohere(await client.classify(**_cohere_asked(model, text, shown)))


def _waited_for(ask: Callable[..., Awaitable[Probabilities]]) -> Callable[..., Probabilities]:
    async def whole(*given: Any, **options: Any) -> Probabilities:
        return await ask(*given, **options)

    return lambda *given, **options: asyncio.run(whole(*given, **options))


_OPENAI: dict[int, type[Exception]] = {
    401: openai.AuthenticationError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    413: openai.APIStatusError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
_SYSTEM_ONE: dict[int, type[Exception]] = {
    401: typesafe_sdk.TypeSafeAuthenticationError,
    404: typesafe_sdk.TypeSafeNotFoundError,
    409: typesafe_sdk.TypeSafeAPIError,
    413: typesafe_sdk.TypeSafeAPIError,
    422: typesafe_sdk.TypeSafeUnprocessableEntityError,
    429: typesafe_sdk.TypeSafeRateLimitError,
}
_COHERE: dict[int, type[Exception]] = {
    401: cohere.errors.UnauthorizedError,
    404: cohere.errors.NotFoundError,
    409: cohere.errors.UnprocessableEntityError,  # its client tries every 409 again, so the door says 422
    413: cohere.core.ApiError,
    422: cohere.errors.UnprocessableEntityError,
    429: cohere.errors.TooManyRequestsError,
}

CLIENTS = (
    Client("openai", _openai, _OPENAI),
    Client("openai-async", _waited_for(_openai_async), _OPENAI),
    Client("typesafe", _system_one, _SYSTEM_ONE),
    Client("typesafe-async", _waited_for(_system_one_async), _SYSTEM_ONE),
    Client("cohere", _cohere, _COHERE),
    Client("cohere-async", _waited_for(_cohere_async), _COHERE),
)
