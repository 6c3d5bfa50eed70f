"""The real clients of other services, unpatched but for base URL and key, against the real service."""

import json
from collections.abc import Iterator
from typing import Any, cast

import cohere
import openai
import pytest
from backports import zstd
from typesafe_sdk import Choice, Noul, Score, TypeSafeClient

from tests.e2e.other_clients import CLIENTS, Client
from tests.e2e.service import EXAMPLES, TINY, Service

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


@pytest.fixture(scope="module")
def unready(service: Service, taught_contexts: None) -> Iterator[None]:
    """A context whose job is at work for as long as it is needed, and one whose only job was cancelled."""
    jobs = {}
    for name in ("door-failed", "door-not-ready"):
        _, jobs[name] = service.create(name=name, model=TINY, hyperparameters={"method": "cpt", "steps": 10_000})
    service.http.post(f"/jobs/{jobs['door-failed']}/cancel").raise_for_status()
    service.ended(jobs["door-failed"])
    yield
    service.http.post(f"/jobs/{jobs['door-not-ready']}/cancel").raise_for_status()


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


@pytest.mark.parametrize("client", CLIENTS, ids=str)
class TestEveryClient:
    """What all of them see, each synchronous and asynchronous."""

    @pytest.mark.usefixtures("taught_contexts")
    def test_is_answered_as_by_classify(self, service: Service, client: Client) -> None:
        expected = probabilities(service, "door-team")
        for model in ("door-team", "door-team@prod", "door-team@1"):
            assert client.ask(root(service), KEY, model, TEXT, tuple(expected)) == pytest.approx(expected)

    def test_is_answered_by_a_base_model_from_what_the_request_brings(self, service: Service, client: Client) -> None:
        found = client.ask(root(service), KEY, TINY, TEXT, ("card", "loan"), shown=True)
        assert set(found) == {"card", "loan"}
        assert sum(found.values()) == pytest.approx(1)

    @pytest.mark.parametrize(
        ("status", "model", "text", "said"),
        [
            (404, "no-such-context", TEXT, "there is no such context"),
            (409, "door-not-ready", TEXT, "has not ended yet"),
            (409, "door-failed", TEXT, "no version of it can answer"),
            (413, "door-team", "long " * 2_000_000, "at most 8388608 bytes"),
            (422, "door-team", "\0", "NUL"),
        ],
    )
    @pytest.mark.usefixtures("unready")
    def test_raises_its_own_error_with_our_words(
        self, service: Service, client: Client, status: int, model: str, text: str, said: str
    ) -> None:
        with pytest.raises(client.errors[status], match=said):
            client.ask(root(service), KEY, model, text, ("card", "loan"))


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


def test_cohere_classifies(service: Service, co: cohere.Client) -> None:
    answered = co.classify(model="door-team", inputs=[TEXT, "another text"])
    first, second = answered.classifications
    expected = probabilities(service, "door-team")
    assert first.input == TEXT
    assert first.prediction == max(expected, key=expected.__getitem__)
    assert {label: value.confidence for label, value in first.labels.items()} == pytest.approx(expected)
    assert second.classification_type == "single-label"


def test_cohere_classifies_by_examples_as_classify_does(service: Service, co: cohere.Client) -> None:
    examples = [cohere.ClassifyExample(text=one["text"], label=one["label"]) for one in EXAMPLES]
    for model in (TINY, None, "jev-latest"):
        answered = co.classify(model=model, inputs=[TEXT], examples=examples)
        asked: dict[str, Any] = {"examples": EXAMPLES, "inputs": [TEXT], "truncate": "END"}
        own = service.http.post("/classify", json=asked | ({"model": TINY} if model == TINY else {})).json()
        labels = {label: value["confidence"] for label, value in own["classifications"][0]["labels"].items()}
        assert {k: v.confidence for k, v in answered.classifications[0].labels.items()} == pytest.approx(labels)


def test_cohere_raises_its_own_errors(service: Service, co: cohere.Client) -> None:
    examples = [cohere.ClassifyExample(text=one["text"], label=one["label"]) for one in EXAMPLES]
    with pytest.raises(cohere.errors.NotFoundError, match="no such context"):
        co.classify(model="no-such-context", inputs=[TEXT])
    for asked, said in (
        ({}, "send `examples`"),
        ({"model": TINY}, "send `examples`"),
        ({"model": "door-team", "examples": examples}, "a context brings its own examples"),
        ({"model": TINY, "examples": examples[:3]}, "at least 2 examples"),
    ):
        with pytest.raises(cohere.errors.UnprocessableEntityError, match=said):
            co.classify(inputs=[TEXT], **cast("dict[str, Any]", asked))
    with (
        cohere.Client(api_key=KEY, base_url=root(service)) as lost,
        pytest.raises(cohere.errors.UnprocessableEntityError, match="/compat/cohere"),
    ):
        lost.classify(model="door-team", inputs=[TEXT])


def test_base_model_answers_every_question_at_both_doors_alike(
    open_ai: openai.OpenAI, system_one: TypeSafeClient
) -> None:
    described = {"card": "about payment cards", "loan": "about loans"}
    questions: Any = [
        choice(*described, name="team"),
        {"type": "predicate", "name": "urgent", "instructions": "Is it urgent?"},
        {
            "type": "score",
            "name": "mood",
            "instructions": "How cross?",
            "levels": [{"label": "calm"}, {"label": "cross"}],
        },
        choice("card", name="one"),
    ]
    questions[0]["choices"] = [{"value": k, "description": v} for k, v in described.items()]
    answered = open_ai.decisions.create(model=TINY, input=TEXT, questions=questions)
    team, urgent, mood, one = (cast("dict[str, Any]", answer.to_dict()) for answer in answered.answers)
    assert one["probabilities"] == [{"value": "card", "probability": 1.0}]
    assert answered.usage.input_tokens > 0
    alone = open_ai.decisions.create(model=TINY, input=TEXT, questions=[questions[2]]).answers[0].to_dict()
    assert alone["score"] == pytest.approx(mood["score"], abs=1e-5)
    other = system_one.system_one(
        state=TEXT,
        model=f"team={TINY},*={TINY}",
        questions={
            "mood": Score(instructions="How cross?", criteria=["calm", "cross"]),
            "team": Choice(instructions="Which?", criteria=described),
            "urgent": Noul(instructions="Is it urgent?"),
        },
    )
    told = {entry["value"]: entry["probability"] for entry in team["probabilities"]}
    assert other.choices["team"].probabilities == pytest.approx(told, abs=1e-5)
    assert other.nouls["urgent"].noul == pytest.approx(urgent["probability"], abs=1e-5)
    assert other.scores["mood"].score == pytest.approx(mood["score"], abs=1e-5)


def test_instructions_of_the_system_and_descriptions_reach_a_base_model(open_ai: openai.OpenAI) -> None:
    def asked(description: str | None, system: str | None) -> float:
        said = [{"role": "developer", "content": system}] if system else []
        question = choice("card", "loan")
        question["choices"][0]["description"] = description
        message: Any = [*said, {"role": "user", "content": TEXT}]
        answered = open_ai.decisions.create(model=TINY, input=message, questions=[question])
        told = cast("dict[str, Any]", answered.answers[0].to_dict())
        return float(told["probabilities"][0]["probability"])

    found = {asked(None, None), asked("about cards", None), asked(None, "Be strict.")}
    assert len(found) == 3


def test_default_model_of_system_one_clients_stands_for_the_default_base_model(system_one: TypeSafeClient) -> None:
    asked = {"team": Choice(criteria={"card": "a card, its delivery", "weather": "rain, sun or snow"})}
    answered = system_one.system_one(state=TEXT, questions=asked)
    assert answered.model == "jev-latest"
    assert answered.choices["team"].choice == "card"


def test_bodies_of_system_one_at_the_door_of_decisions_get_its_answers_and_errors(service: Service) -> None:
    service.post_classify("door-team", [TEXT])
    body = {"state": TEXT, "model": TINY, "questions": {"q": {"type": "noul", "instructions": "Urgent?"}}}
    answered = service.http.post("/v1/decisions", json=body)
    assert set(answered.json()["answers"]) == {"q"}
    assert answered.headers["x-typesafe-request-id"] == answered.headers["x-request-id"]
    refused = service.http.post("/v1/decisions", json=body | {"questions": {"q": {"type": "noul", "criteria": 1}}})
    assert refused.json()["detail"][0]["loc"][:3] == ["body", "questions", "q"]
    assert "error" not in refused.json()


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        ([choice(" ", "b")], "must not be empty"),
        ([choice("a" * 300, "b" * 300)], "may have 512"),
        ([choice("a", "b") | {"instructions": "x" * 600}], "may have 512"),
        ([choice("é", "e\u0301")], "same tokens"),
    ],
)
def test_what_a_base_model_cannot_read_is_refused_with_the_place(
    open_ai: openai.OpenAI, questions: Any, said: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=said) as raised:
        open_ai.decisions.create(model=TINY, input=TEXT, questions=questions)
    assert raised.value.param == "/questions/0"


@pytest.mark.parametrize(("text", "said"), [(" ", "empty"), ("x" * 600, "600 tokens|room for"), ("a\0", "NUL")])
def test_text_that_cannot_be_read_is_refused(open_ai: openai.OpenAI, text: str, said: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=said) as raised:
        open_ai.decisions.create(model=TINY, input=text, questions=[choice("a", "b")])
    assert raised.value.param == "/input"


def test_lists_of_models_are_read_by_every_client(
    open_ai: openai.OpenAI, system_one: TypeSafeClient, co: cohere.Client
) -> None:
    listed = {one.id: one for one in open_ai.models.list()}
    assert {TINY, "jev-latest", "door-team", "door-mood"} <= set(listed)
    assert open_ai.models.retrieve("door-team").created == listed["door-team"].created > 1.7e9
    with pytest.raises(openai.NotFoundError, match="no such model"):
        open_ai.models.retrieve("no-such-model")
    answered = system_one.models.list()
    assert answered.request_id.startswith("req_")
    read = {one.name: one for one in answered.models}
    assert read["door-team"].description == "door-team tells apart card, loan, account"
    assert set(read) == set(listed)
    models = co.models.list(page_size=1, endpoint="classify").models
    assert {one.name: one.finetuned for one in models}.items() >= {(TINY, False), ("door-team", True)}
    assert co.models.list(endpoint="chat").models == []


def test_compressed_bodies_are_read_and_bounded(service: Service) -> None:
    body = {"state": TEXT, "model": TINY, "questions": {"q": {"type": "noul", "instructions": "Urgent?"}}}
    whole = zstd.compress(json.dumps(body).encode())

    def post(content: bytes) -> int:
        headers = {"content-encoding": "zstd", "content-type": "application/json"}
        return service.http.post("/v1/systemone", content=content, headers=headers).status_code

    assert post(whole) == 200
    assert (post(whole[:-3]), post(whole + b"more"), post(b"no zstd")) == (400, 400, 400)
    assert post(zstd.compress(b" " * (8 * 1024 * 1024 + 1))) == 413
