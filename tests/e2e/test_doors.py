"""The real clients of other services, unpatched but for base URL and key, against the real service."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import cohere
import openai
import pytest
import typesafe_sdk
from typesafe_sdk import AsyncTypeSafeClient, Choice, Noul, Score, TypeSafeClient

from tests.e2e.service import TINY, Service

KEY = "sk-of-another-service"
TEXT = "my card never came"


def root(service: Service) -> str:
    return str(service.http.base_url).rstrip("/")


def taught(service: Service, name: str, *labels: str, **fields: Any) -> str:
    examples = [{"text": f"{label} text {n}", "label": label} for n in range(2) for label in labels]
    plain = {"method": "icl"}
    return service.tuned(name=name, model=TINY, examples=examples, hyperparameters=plain, **fields)


@pytest.fixture(scope="module")
def taught_contexts(service: Service) -> None:
    taught(service, "door-team", "card", "loan", "account")
    taught(service, "door-urgent", "true", "false")
    taught(service, "door-mood", "calm", "cross", "angry")
    taught(service, "door-unsure", "card", "loan", metadata={"min_confidence": "0.999999"})
    service.http.put("/contexts/door-team/aliases/prod", json={"version": 1}).raise_for_status()


@pytest.fixture
def open_ai(service: Service, taught_contexts: None) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{root(service)}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def system_one(service: Service, taught_contexts: None) -> Iterator[TypeSafeClient]:
    with TypeSafeClient(base_url=root(service), api_key=KEY) as client:
        yield client


@pytest.fixture
def co(service: Service, taught_contexts: None) -> Iterator[cohere.Client]:
    with cohere.Client(api_key=KEY, base_url=f"{root(service)}/compat/cohere") as client:
        yield client


def probabilities(service: Service, ref: str, text: str = TEXT) -> dict[str, float]:
    (answer,) = service.post_classify(ref, [text]).json()["classifications"]
    return {label: value["confidence"] for label, value in answer["labels"].items()}


def choice(*values: Any, **fields: Any) -> Any:
    return {"type": "choice", "instructions": "Which?", "choices": [{"value": value} for value in values], **fields}


def test_openai_answers_are_those_of_classify(service: Service, open_ai: openai.OpenAI) -> None:
    expected = probabilities(service, "door-team")
    answered = open_ai.decisions.create(model="door-team@prod", input=TEXT, questions=[choice(*expected, name="team")])
    (answer,) = answered.answers
    assert isinstance(answer, openai.types.decision.AnswerAnswerResourceChoice)
    assert (answer.name, answer.choice) == ("team", max(expected, key=expected.__getitem__))
    assert {one.value: one.probability for one in answer.probabilities} == pytest.approx(expected)
    assert answered.usage.total_tokens == answered.usage.input_tokens > 0


def test_openai_asks_several_questions_of_several_contexts(service: Service, open_ai: openai.OpenAI) -> None:
    questions = [
        {"type": "predicate", "instructions": "Is it urgent?", "name": "urgent"},
        {
            "type": "score",
            "instructions": "How cross?",
            "levels": [{"label": one} for one in ("calm", "cross", "angry")],
        },
        choice("loan", "card", name="team"),
    ]
    model = "urgent=door-urgent,team=door-team,*=door-mood"
    answered = open_ai.decisions.create(model=model, input=TEXT, questions=questions)
    urgent, mood, team = (cast("dict[str, Any]", one.to_dict()) for one in answered.answers)
    assert urgent["probability"] == pytest.approx(probabilities(service, "door-urgent")["true"])
    scale = list(probabilities(service, "door-mood").values())
    assert mood["score"] == pytest.approx(sum(level * p for level, p in enumerate(scale)))
    expected = probabilities(service, "door-team")
    assert [one["value"] for one in team["probabilities"]] == ["loan", "card"]
    share = expected["loan"] / (expected["loan"] + expected["card"])
    assert team["probabilities"][0]["probability"] == pytest.approx(share)
    assert answered.model == model


def test_openai_reads_messages_and_refuses_below_the_confidence(service: Service, open_ai: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]
    asked: Any = {"input": messages, "questions": [choice("card", "loan")]}
    assert open_ai.decisions.create(model="door-unsure", **asked).answers[0].type == "refusal"
    sure = open_ai.decisions.create(model="door-unsure", **asked, extra_headers={"Contextune-Min-Confidence": "0"})
    assert sure.answers[0].type == "choice"


def test_openai_client_works_asynchronously_too(service: Service, taught_contexts: None) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{root(service)}/v1", api_key=KEY) as client:
            asked: Any = {"input": TEXT, "questions": [choice("card", "loan")]}
            return (await client.decisions.create(model="door-team", **asked)).answers[0].type

    assert asyncio.run(ask()) == "choice"


@pytest.mark.parametrize(
    ("error", "model", "questions", "said"),
    [
        (openai.NotFoundError, "no-such-context", [choice("card", "loan")], "there is no such context"),
        (openai.UnprocessableEntityError, "door-team", [choice("card", "boat")], "no label 'boat'"),
        (openai.UnprocessableEntityError, "door-team", [{"type": "predicate", "instructions": "?"}], "true and false"),
        (openai.UnprocessableEntityError, "team=door-team", [choice("card", "loan")], "nothing in the list"),
        (openai.UnprocessableEntityError, "door-team", [choice(True, "true")], "same label"),
    ],
)
def test_openai_raises_its_own_errors_with_our_words(
    open_ai: openai.OpenAI, error: type[openai.APIStatusError], model: str, questions: Any, said: str
) -> None:
    with pytest.raises(error, match=said) as raised:
        open_ai.decisions.create(model=model, input=TEXT, questions=questions)
    assert raised.value.request_id
    assert raised.value.code


def test_system_one_answers_every_type(service: Service, system_one: TypeSafeClient) -> None:
    answered = system_one.system_one(
        state={"text": TEXT},
        model="urgent=door-urgent,team=door-team,mood=door-mood",
        questions={
            "urgent": Noul(instructions="Is it urgent?"),
            "team": Choice(criteria={"card": "about cards", "loan": None, "account": None}),
            "mood": Score(criteria=["calm", "cross", "angry"]),
        },
    )
    text = '{"text": "' + TEXT + '"}'
    assert answered.nouls["urgent"].noul == pytest.approx(probabilities(service, "door-urgent", text)["true"])
    assert answered.choices["team"].probabilities == pytest.approx(probabilities(service, "door-team", text))
    assert answered.scores["mood"].legend == {0: "calm", 1: "cross", 2: "angry"}
    assert answered.usage.input_tokens


def test_system_one_works_asynchronously_and_raises_its_own_errors(service: Service, taught_contexts: None) -> None:
    base_url = root(service)

    async def ask(model: str) -> float:
        async with AsyncTypeSafeClient(base_url=base_url, api_key=KEY) as client:
            asked = {"urgent": Noul(instructions="?")}
            return (await client.system_one(state=TEXT, model=model, questions=asked)).nouls["urgent"].noul

    assert asyncio.run(ask("door-urgent")) == pytest.approx(probabilities(service, "door-urgent")["true"])
    with pytest.raises(typesafe_sdk.TypeSafeNotFoundError, match="there is no such context"):
        asyncio.run(ask("no-such-context"))
    with pytest.raises(typesafe_sdk.TypeSafeUnprocessableEntityError, match="true and false"):
        asyncio.run(ask("door-team"))


def test_cohere_classifies(service: Service, co: cohere.Client) -> None:
    answered = co.classify(model="door-team", inputs=[TEXT, "another text"])
    first, second = answered.classifications
    expected = probabilities(service, "door-team")
    assert first.input == TEXT
    assert first.prediction == max(expected, key=expected.__getitem__)
    assert {label: value.confidence for label, value in first.labels.items()} == pytest.approx(expected)
    assert second.classification_type == "single-label"


def test_cohere_raises_its_own_errors(co: cohere.Client) -> None:
    with pytest.raises(cohere.errors.NotFoundError, match="no such context"):
        co.classify(model="no-such-context", inputs=[TEXT])
    with pytest.raises(cohere.errors.UnprocessableEntityError, match="POST /contexts"):
        co.classify(inputs=[TEXT])
