"""Answers as JSON."""

import json

from app.classification.answers import Answerer, write
from app.contract.messages import Scored

ANSWERER = Answerer(
    model="tiny", labels=("lost", 'exchange "rate" é'), tokens=226, calibrated=True, context_id="ctx_1", version=3
)


def test_all_that_was_scored_is_written() -> None:
    scored = [
        Scored(confidences=(0.25, 0.75), tokens=9, truncated=False),
        Scored(confidences=(0.6, 0.4), tokens=5, truncated=True),
        Scored(confidences=(0.5, 0.5), tokens=1, truncated=False),
    ]
    answer = json.loads(write(ANSWERER, scored, min_confidence=0.6))
    assert answer.pop("id").startswith("cls_")
    lost, rate = ANSWERER.labels
    assert answer == {
        "object": "classification",
        "calibrated": True,
        "context_id": "ctx_1",
        "context_version": 3,
        "model": "tiny",
        "classifications": [
            {
                "index": 0,
                "prediction": rate,
                "confidence": 0.75,
                "abstained": False,
                "truncated": False,
                "labels": {lost: {"confidence": 0.25}, rate: {"confidence": 0.75}},
            },
            {
                "index": 1,
                "prediction": lost,
                "confidence": 0.6,
                "abstained": False,
                "truncated": True,
                "labels": {lost: {"confidence": 0.6}, rate: {"confidence": 0.4}},
            },
            {
                "index": 2,
                "prediction": None,
                "confidence": 0.5,
                "abstained": True,
                "truncated": False,
                "labels": {lost: {"confidence": 0.5}, rate: {"confidence": 0.5}},
            },
        ],
        "usage": {"input_tokens": 15, "context_tokens": 226},
    }


def test_first_of_equals_is_predicted() -> None:
    answer = json.loads(
        write(ANSWERER, [Scored(confidences=(0.5, 0.5), tokens=1, truncated=False)], min_confidence=0.5)
    )
    assert answer["classifications"][0]["prediction"] == ANSWERER.labels[0]


def test_top_k_tells_the_likeliest_labels_with_the_confidences_that_they_have() -> None:
    scored = [Scored(confidences=(0.25, 0.75), tokens=9, truncated=False)]
    (one,) = json.loads(write(ANSWERER, scored, min_confidence=0, top_k=1))["classifications"]
    assert one["labels"] == {ANSWERER.labels[1]: {"confidence": 0.75}}
    assert one["prediction"] == ANSWERER.labels[1]
    (one,) = json.loads(write(ANSWERER, scored, min_confidence=0, top_k=9))["classifications"]
    assert list(one["labels"]) == [ANSWERER.labels[1], ANSWERER.labels[0]]
