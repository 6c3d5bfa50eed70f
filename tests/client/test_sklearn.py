"""The classifier of scikit-learn, against a stand-in that predicts the label whose examples share most words."""

import json
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from contextune.errors import JobFailedError
from contextune.sklearn import ContextuneClassifier
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from tests.client.answers import context, ended, job
from tests.client.standin import Seen, StandIn, says, standing

TEXTS = [
    "a good film",
    "what a good day",
    "so good",
    "good and fine",
    "a bad film",
    "what a bad day",
    "so bad",
    "bad and poor",
]
LABELS = ["pos"] * 4 + ["neg"] * 4


class Words:
    """Contexts by number, each with the words of its labels."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def create(self, seen: Seen) -> Any:
        self.bodies.append(json.loads(seen.body))
        one = context(id=f"ctx_{len(self.bodies) - 1}", labels=self.bodies[-1]["labels"])
        return says({"context": one, "job": job()}, 202)

    def get(self, seen: Seen) -> Any:
        number = int(seen.path.removeprefix("/contexts/ctx_"))
        return says(context(id=f"ctx_{number}", labels=self.bodies[number]["labels"]))

    def classify(self, seen: Seen) -> Any:
        asked = json.loads(seen.body)
        examples = self.bodies[int(asked["context"].removeprefix("ctx_"))]
        return says({"id": "cls_1", "model": "tiny", "classifications": [
            self._one(index, text, examples) for index, text in enumerate(asked["inputs"])
        ]})  # fmt: skip

    @staticmethod
    def _one(index: int, text: str, examples: dict[str, Any]) -> dict[str, Any]:
        counts = {
            label: 1 + sum(len(set(text.split()) & set(example["text"].split())) ** 2
                           for example in examples["examples"] if example["label"] == label)
            for label in examples["labels"]
        }  # fmt: skip
        shares = {label: count / sum(counts.values()) for label, count in counts.items()}
        prediction = max(shares, key=shares.__getitem__)
        labels = {label: {"confidence": share} for label, share in shares.items()}
        return {"index": index, "prediction": prediction, "confidence": shares[prediction], "labels": labels}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with standing() as stand_in:
        words = Words()
        monkeypatch.setenv("CONTEXTUNE_URL", stand_in.url)
        monkeypatch.setenv("CONTEXTUNE_API_KEY", "ctk_secret")
        stand_in.always = {
            "/contexts": words.create,
            "/jobs/job_1": lambda _: says(ended()),
            "/classify": words.classify,
            **{f"/contexts/ctx_{number}": words.get for number in range(20)},
        }
        yield stand_in


def test_texts_are_learned_and_predicted(service: StandIn) -> None:
    classifier = ContextuneClassifier().fit(TEXTS, LABELS)
    assert classifier.classes_.tolist() == ["neg", "pos"]
    assert classifier.predict(["a good one", "a bad one"]).tolist() == ["pos", "neg"]
    probabilities = classifier.predict_proba(["a good one", "a bad one"])
    assert probabilities.shape == (2, 2)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])
    assert classifier.score(TEXTS, LABELS) == 1.0


@pytest.mark.parametrize("kind", [list, np.array, lambda values: np.array(values, dtype=object).reshape(-1, 1)])
def test_texts_may_come_in_any_form(service: StandIn, kind: Any) -> None:
    assert ContextuneClassifier().fit(kind(TEXTS), LABELS).predict(kind(["so bad"])).tolist() == ["neg"]


@pytest.mark.parametrize("labels", [[3, 3, 3, 3, 1, 1, 1, 1], [True] * 4 + [False] * 4])
def test_classes_keep_their_kind(service: StandIn, labels: list[Any]) -> None:
    classifier = ContextuneClassifier().fit(TEXTS, labels)
    predicted = classifier.predict(["so good"])
    assert predicted.tolist() == [labels[0]]
    assert predicted.dtype == classifier.classes_.dtype == np.array(labels).dtype


def test_nothing_to_predict_is_an_empty_array(service: StandIn) -> None:
    assert ContextuneClassifier().fit(TEXTS, LABELS).predict_proba([]).shape == (0, 2)


def test_pickled_classifier_predicts_and_holds_no_key(service: StandIn) -> None:
    classifier = ContextuneClassifier(hyperparameters={"steps": 2}).fit(TEXTS, LABELS)
    pickled = pickle.dumps(classifier)
    assert b"ctk_secret" not in pickled
    assert pickle.loads(pickled).predict(["so bad"]).tolist() == ["neg"]
    assert "ctk_secret" not in repr(classifier)


def test_clone_has_the_parameters_and_nothing_learned(service: StandIn) -> None:
    classifier = ContextuneClassifier(method="icl", hyperparameters={"seed": 3}).fit(TEXTS, LABELS)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(TEXTS)


def test_classifier_works_in_a_pipeline_in_cross_validation_and_in_a_search(service: StandIn) -> None:
    def lower(texts: Any) -> list[str]:
        return [text.lower() for text in texts]

    pipeline = make_pipeline(FunctionTransformer(lower), ContextuneClassifier())
    assert pipeline.fit([text.upper() for text in TEXTS], LABELS).predict(["SO GOOD"]).tolist() == ["pos"]
    assert cross_val_score(ContextuneClassifier(), TEXTS, LABELS, cv=2).tolist() == [1.0, 1.0]
    search = GridSearchCV(ContextuneClassifier(), {"method": ["icl", "cpt"]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_score_ == 1.0


def test_parameters_reach_the_service(service: StandIn) -> None:
    bodies: list[dict[str, Any]] = []
    create = service.always["/contexts"]

    def recorded(seen: Seen) -> Any:
        bodies.append(json.loads(seen.body))
        return create(seen)

    service.always["/contexts"] = recorded
    ContextuneClassifier(name="films", model="tiny", method="cpt", hyperparameters={"steps": 2}).fit(TEXTS, LABELS)
    body = bodies[0]
    assert (body["name"], body["model"]) == ("films", "tiny")
    assert (body["hyperparameters"], body["labels"]) == ({"method": "cpt", "steps": 2}, ["neg", "pos"])


@pytest.mark.parametrize(
    ("texts", "labels", "said"),
    [
        (TEXTS, LABELS[:-1], "there are 8 texts and 7 labels"),
        (TEXTS, ["pos"] * 8, "only one class is present"),
        (TEXTS, None, "requires y to be passed, but the target y is None"),
        (TEXTS, [0.5] * 8, "Unknown label type"),
        ([1, 2], ["pos", "neg"], "X must be texts, not int"),
        ([["a", "b"], ["c", "d"]], ["pos", "neg"], "X must be texts in one dimension"),
    ],
)
def test_what_cannot_be_learned_is_a_value_error(service: StandIn, texts: Any, labels: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ContextuneClassifier().fit(texts, labels)


def test_job_that_fails_leaves_the_classifier_unfitted(service: StandIn) -> None:
    error = {"code": "internal", "message": "oh"}
    service.always["/jobs/job_1"] = lambda _: says(ended("failed", error=error))
    classifier = ContextuneClassifier()
    with pytest.raises(JobFailedError):
        classifier.fit(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        classifier.predict(TEXTS)


def test_deleted_context_leaves_the_classifier_unfitted(service: StandIn) -> None:
    classifier = ContextuneClassifier().fit(TEXTS, LABELS)
    classifier.delete()
    with pytest.raises(NotFittedError):
        classifier.predict(TEXTS)


def test_classifier_passes_the_checks_of_scikit_learn_that_need_no_numbers() -> None:
    with pytest.warns(SkipTestWarning, match="Can't test estimator ContextuneClassifier which requires input"):
        results = estimator_checks.check_estimator(ContextuneClassifier(), on_fail=None, on_skip=None)
    assert {result["status"] for result in results} == {"passed"}


@pytest.mark.parametrize(
    "check",
    ["check_estimator_cloneable", "check_estimator_repr", "check_get_params_invariance", "check_set_params",
     "check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_estimator_tags_renamed",
     "check_valid_tag_types"],
)  # fmt: skip
def test_classifier_keeps_to_the_interface(check: str) -> None:
    getattr(estimator_checks, check)("ContextuneClassifier", ContextuneClassifier())
