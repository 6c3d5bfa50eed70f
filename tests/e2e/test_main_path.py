"""Create, wait, classify: what the README shows, and what belongs to it."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e.service import EXAMPLES, TEXTS, TINY, Service, assert_problem, same
from tests.worker.tiny import CONTEXT_LENGTH

README_EXAMPLE = Path("examples/support-intents.json")
LABELS = ["card arrival", "card linking"]


def test_examples_of_the_readme_are_tuned_and_answer(service: Service) -> None:
    body = json.loads(README_EXAMPLE.read_text()) | {"name": "support-intents-of-the-readme"}
    created = service.http.post("/contexts", json=body | {"hyperparameters": {"method": "cpt", "steps": 3}})
    assert created.status_code == 202
    context, job = created.json()["context"], created.json()["job"]
    assert created.headers["location"] == f"/jobs/{job['id']}"
    assert (context["object"], context["name"], context["version"]) == ("context", body["name"], 1)
    assert (context["status"], context["job_id"], context["report"]) == ("queued", job["id"], None)
    assert context["tokens"] > 50
    assert (job["object"], job["context_id"], job["terminal"]) == ("job", context["id"], False)
    assert job["hyperparameters"]["steps"] == job["progress"]["total_steps"] == 3

    ended = service.ended(job["id"])
    assert (ended["status"], ended["terminal"], ended["attempt"], ended["error"]) == ("succeeded", True, 1, None)
    assert ended["progress"] == {"step": 3, "total_steps": 3, "fraction": 1.0}
    assert ended["trained_tokens"] > 0
    times = [datetime.fromisoformat(ended[name]) for name in ("created_at", "started_at", "finished_at")]
    assert times == sorted(times)
    assert all(time.tzinfo for time in times)

    tuned = service.context(body["name"])
    assert tuned["id"] == context["id"]
    assert len(tuned["report"]["loss_curve"]) == 3
    assert (tuned["report"]["served"], tuned["metadata"]) == ("tuned", body["metadata"])

    answer = service.post_classify(body["name"], ["my card never came"]).json()
    assert (answer["context_id"], answer["context_version"], answer["model"]) == (tuned["id"], 1, tuned["model"])
    assert answer["id"].startswith("cls_")
    assert answer["usage"]["context_tokens"] == tuned["tokens"]
    assert answer["usage"]["input_tokens"] > 0
    (one,) = answer["classifications"]
    assert list(one["labels"]) == tuned["labels"]
    assert one["labels"][one["prediction"]]["confidence"] == one["confidence"] == max(
        label["confidence"] for label in one["labels"].values()
    )  # fmt: skip
    assert sum(label["confidence"] for label in one["labels"].values()) == pytest.approx(1)
    assert (one["index"], one["abstained"], one["truncated"]) == (0, False, False)


def test_validation_examples_are_measured(service: Service) -> None:
    validation = [{"text": text, "label": label} for text, label in zip(TEXTS, [*LABELS, LABELS[0]], strict=True)]
    metrics = service.context(service.tuned(validation_examples=validation))["report"]
    for kind in ("icl", "tuned"):
        figures = {"accuracy", "macro_f1", "nll", "ece", "brier"}
        assert set(metrics[kind]) == figures | {f"{figure}_ci95" for figure in figures} | {"n", "chance_ece"}
        assert metrics[kind]["n"] == 3


def test_auto_reports_what_was_held_out_and_answers(service: Service) -> None:
    words = {"card arrival": ("never came", "is late", "where is it"), "card linking": ("add it", "link it", "connect")}
    examples = [{"text": f"my card: {text}", "label": label} for label, texts in words.items() for text in texts]
    body = {"examples": examples, "model": TINY, "hyperparameters": {"method": "auto", "steps": 2}}
    planned = service.http.post("/contexts", params={"dry_run": "true"}, json=body).json()
    assert [trial["steps"] for trial in planned["hyperparameters"]["trials"]] == [0, 2]
    assert 0 < planned["estimated_seconds"] <= 120
    assert [offer["max_seconds"] for offer in planned["budgets"]] == [30, 120, 600, None]
    context_id = service.tuned(**body)
    context = service.context(context_id)
    job = service.http.get(f"/jobs/{context['job_id']}").json()
    metrics = context["report"]
    assert (metrics["measured_on"], metrics["icl"]["n"], metrics["tuned"]["n"]) == ("folds", 6, 6)
    assert metrics["served"] == ("tuned" if job["hyperparameters"]["steps"] else "calibrated")
    assert "Only 6 examples" in metrics["notes"][0]
    assert metrics["reproducibility"]["seed"] == 0
    assert job["progress"]["fraction"] == 1.0
    assert job["hyperparameters"]["steps"] in (0, 2)
    alone = [service.confidences(context_id, [text]) for text in TEXTS]
    assert same(service.confidences(context_id, TEXTS), [value for row in alone for value in row])


def test_icl_tunes_nothing_and_answers(service: Service) -> None:
    context_id = service.tuned(hyperparameters={"method": "icl"})
    assert service.context(context_id)["report"]["served"] == "icl"
    assert len(service.confidences(context_id)) == len(TEXTS) * 2


def test_same_post_gives_the_same_context(service: Service) -> None:
    first, second = (service.tuned(hyperparameters={"method": "cpt", "steps": 3, "seed": 7}) for _ in range(2))
    curves = [service.context(context_id)["report"]["loss_curve"] for context_id in (first, second)]
    assert same(*curves)
    assert same(service.confidences(first), service.confidences(second))


def test_same_text_has_the_same_confidence_in_any_company(service: Service, tuned: str) -> None:
    alone = [service.confidences(tuned, [text]) for text in TEXTS]
    together = service.confidences(tuned, [*TEXTS, "x" * 300, *TEXTS])
    expected = [value for row in alone for value in row]
    assert same(together[: len(expected)], expected)
    assert same(together[-len(expected) :], expected)
    with ThreadPoolExecutor(12) as pool:
        rows = list(pool.map(lambda index: service.confidences(tuned, [TEXTS[index % 3]]), range(24)))
    for index, row in enumerate(rows):
        assert same(row, alone[index % 3])


def test_many_inputs_are_answered_in_their_order(service: Service, tiny: str) -> None:
    texts = [f"card number {number}" if number % 2 else "x" * (number % 150 + 1) for number in range(600)]
    answers = service.post_classify(tiny, texts).json()["classifications"]
    assert [one["index"] for one in answers] == list(range(600))
    for index in (0, 63, 64, 150, 599):
        values = [label["confidence"] for label in answers[index]["labels"].values()]
        assert same(values, service.confidences(tiny, [texts[index]]))


def test_inputs_of_a_request_calibrate_one_another_where_asked_to(service: Service, tuned: str) -> None:
    texts = [f"{TEXTS[number % 3]} {number}" for number in range(70)]  # more than one message to a worker

    def odds(**fields: bool) -> list[float]:
        classifications = service.post_classify(tuned, texts, **fields).json()["classifications"]
        rows = [[label["confidence"] for label in one["labels"].values()] for one in classifications]
        assert all(math.isclose(sum(row), 1) for row in rows)
        return [math.log(first / second) for first, second in rows]

    plain = odds()
    assert odds(batch_calibration=True) == pytest.approx([one - sum(plain) / len(plain) for one in plain], abs=1e-6)


def test_prediction_below_the_wanted_confidence_is_withheld(service: Service, tuned: str) -> None:
    answers = service.post_classify(tuned, TEXTS, min_confidence=1.0).json()["classifications"]
    for one in answers:
        assert one["abstained"] is (one["confidence"] < 1)
        assert (one["prediction"] is None) is one["abstained"]
    assert not any(one["abstained"] for one in service.post_classify(tuned, TEXTS).json()["classifications"])


def test_long_input_is_refused_or_cut_where_the_user_says(service: Service, tiny: str) -> None:
    text = " ".join(f"word{number}" for number in range(CONTEXT_LENGTH))
    room = CONTEXT_LENGTH - service.context(tiny)["tokens"]
    assert_problem(service.post_classify(tiny, ["fine", text]), 422, "input_too_long", "/inputs/1")
    assert_problem(service.post_classify(tiny, ["fine"] * 99 + [text]), 422, "input_too_long", "/inputs/99")
    for truncate in ("START", "END"):
        response = service.post_classify(tiny, [text], truncate=truncate)
        assert response.status_code == 200
        assert response.json()["classifications"][0]["truncated"] is True
        assert room / 2 < response.json()["usage"]["input_tokens"] < room
        assert (
            service.post_classify(tiny, ["fine"], truncate=truncate).json()["classifications"][0]["truncated"] is False
        )


def test_labels_with_the_same_beginning_and_any_script_are_told_apart(service: Service) -> None:
    examples = [
        {"text": "wo ist meine Karte? \U0001f4b3", "label": "card"},
        {"text": "我的卡在哪里", "label": "card arrival"},
        {"text": "как привязать карту", "label": "привязка карты"},
    ]
    context_id = service.tuned(examples=examples, hyperparameters={"method": "icl"})
    answer = service.post_classify(context_id, ["卡\u200d\U0001f468"]).json()["classifications"][0]
    assert list(answer["labels"]) == [example["label"] for example in examples]
    assert len({label["confidence"] for label in answer["labels"].values()}) == 3


def test_models_and_health_describe_what_runs(service: Service, tuned: str) -> None:
    listed = service.http.get("/models").json()["data"]
    model, other = (one for one in listed if one["kind"] == "base_model")
    assert (other["id"], other["context_length"]) == (TINY, CONTEXT_LENGTH)
    assert model["id"] == service.context(tuned)["model"]
    assert (model["workers"], model["context_length"]) == (1, 8192)
    assert model["parameters"] > 100_000_000
    (device,) = model["devices"]
    assert (model["device"], device["id"]) == ("cpu", "cpu")
    assert device["total_bytes"] > device["free_bytes"] > 0
    ready = service.http.get("/health/ready").json()
    assert ready["status"] == "ready"
    (state,) = [ready["checks"]["models"][model["id"]]]
    assert (state["status"], state["workers"], state["stage"], len(state["devices"])) == ("ready", 1, None, 1)


def test_users_texts_are_not_in_the_logs(service: Service) -> None:
    secret = "correct horse battery staple"
    examples = [*EXAMPLES, {"text": secret, "label": "card arrival"}]
    context_id = service.tuned(examples=examples, metadata={"note": secret})
    assert service.post_classify(context_id, [secret]).status_code == 200
    assert service.post_classify(context_id, [secret, ""]).status_code == 422
    service.http.get("/contexts", params={"metadata[note]": secret})
    logs = list((service.folder / "logs").iterdir())
    assert {"gateway.log", "worker.log"} <= {log.name for log in logs}
    assert not [log for log in logs if b"battery" in log.read_bytes()]
