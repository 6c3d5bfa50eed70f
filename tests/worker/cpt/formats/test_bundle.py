import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.worker.tiny import classifier
from worker.cpt.formats.bundle import TunedContext, load, save
from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.features import VIEWS
from worker.cpt.scoring.mixture import usual_mixture

METADATA = {"labels": ["a", "ü"], "step": 3, "loss": 0.5}


@pytest.fixture
def tuned(task: Any) -> TunedContext:
    embedding, delta = torch.randn(2, len(task.context), 8)
    return TunedContext(task.context.tokens, embedding, delta, METADATA)


def test_saved_context_loads_as_it_was(tuned: TunedContext) -> None:
    loaded = load(save(tuned), width=8, vocabulary=97)
    assert loaded.tokens == tuned.tokens
    assert loaded.metadata == METADATA
    assert torch.equal(loaded.embedding, tuned.embedding)
    assert torch.equal(loaded.delta, tuned.delta)
    assert torch.equal(loaded.embeds, tuned.embedding + tuned.delta)


@pytest.mark.parametrize("head", [True, False])
def test_classifier_loads_as_it_was(tuned: TunedContext, head: bool) -> None:
    kept = classifier(2, hidden=8) if head else Classifier(torch.rand(2), usual_mixture((0.5,), 2))
    metadata = METADATA | {"label_ids": [[1], [2, 3]]}
    loaded = load(save(replace(tuned, metadata=metadata, classifier=kept))).classifier
    assert loaded is not None
    scores, views = torch.randn(5, 2), torch.randn(len(VIEWS), 5, 8)
    assert torch.equal(loaded.probabilities(scores, views), kept.probabilities(scores, views))


def test_classifier_for_other_labels_is_refused(tuned: TunedContext) -> None:
    metadata = METADATA | {"label_ids": [[1], [2], [3]]}
    with pytest.raises(ValueError, match="expected shapes"):
        load(save(replace(tuned, metadata=metadata, classifier=classifier(2, hidden=8))))


def test_same_context_gives_the_same_bytes(tuned: TunedContext) -> None:
    reordered = dict(reversed(list(METADATA.items())))
    other = TunedContext(tuned.tokens, tuned.embedding.clone(), tuned.delta.clone(), reordered)
    assert save(tuned) == save(other)


def test_tensors_that_do_not_fit_the_tokens_are_not_saved(tuned: TunedContext) -> None:
    with pytest.raises(ValueError, match="shape"):
        save(TunedContext(tuned.tokens, tuned.embedding[1:], tuned.delta[1:], METADATA))


def test_every_cut_short_blob_is_refused(tuned: TunedContext) -> None:
    blob = save(tuned)
    for length in range(0, len(blob), 37):
        with pytest.raises(ValueError, match="adapter"):
            load(blob[:length])


def blob_of(metadata: str = "{}", classifier_bias: torch.Tensor | None = None, **changes: torch.Tensor) -> bytes:
    tensors = {
        "embedding": torch.zeros(3, 8),
        "delta": torch.zeros(3, 8),
        "ids": torch.tensor([1, 2, 3]),
        "types": torch.tensor([0, 1, 4]),
    }
    if classifier_bias is not None:
        changes["classifier/bias"] = classifier_bias
    return safetensors.torch.save(tensors | changes, {"contextune": metadata})


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (blob_of(delta=torch.zeros(3, 4)), "different lengths"),
        (blob_of(ids=torch.tensor([1, 2])), "different lengths"),
        (blob_of(delta=torch.zeros(3, 8, dtype=torch.float16)), "delta must have"),
        (blob_of(embedding=torch.zeros(24)), "embedding must have"),
        (blob_of(delta=torch.full((3, 8), float("nan"))), "not finite"),
        (blob_of(ids=torch.tensor([1, -2, 3])), "outside the vocabulary"),
        (blob_of(ids=torch.tensor([1, 97, 3])), "outside the vocabulary"),
        (blob_of(types=torch.tensor([0, -1, 4])), "unknown token types"),
        (blob_of(types=torch.tensor([0, 1, 2**40])), "unknown token types"),
        (blob_of(extra=torch.zeros(1)), "does not hold"),
        (blob_of(classifier_bias=torch.zeros(1)), "expected shapes"),
        (blob_of(classifier_bias=torch.zeros(1, dtype=torch.float64)), "of type F32"),
        (blob_of(metadata="[]"), "not an object"),
        (blob_of(metadata="{"), "damaged"),
        (safetensors.torch.save({"delta": torch.zeros(1)}), "does not hold"),
        (b"PK\x03\x04 a zip file", "not a safetensors file"),
        (struct.pack("<Q", 4) + b"null", "does not hold"),
    ],
)
def test_blob_that_is_not_consistent_is_refused(blob: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load(blob, width=8, vocabulary=97)


def test_embeddings_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="size 8"):
        load(blob_of(), width=576)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["ids"].update(data_offsets=[0, 2**60]),
        lambda header: header["embedding"].update(shape=[2**40, 2**40]),
        lambda header: header.update(__metadata__=None),
    ],
)
def test_header_that_lies_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    blob = blob_of()
    (size,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    with pytest.raises(ValueError, match="adapter"):
        load(struct.pack("<Q", len(text)) + text + blob[8 + size :])
