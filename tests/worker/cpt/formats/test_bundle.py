import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.worker.tiny import classifier
from worker.cpt.formats.bundle import Prompt, TunedContext, load, save
from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.head import Head
from worker.cpt.scoring.mixture import Mixture, prior_mixture
from worker.cpt.scoring.scorer import Reading
from worker.cpt.scoring.views import VIEWS

TENSORS = ("embedding", "delta")
METADATA = {"labels": ["a", "ü"], "step": 3, "loss": 0.5}


@pytest.fixture
def tuned(task: Any) -> TunedContext:
    embedding, delta = torch.randn(2, len(task.context), 8)
    return TunedContext((Prompt(task.context.tokens, embedding, delta),), METADATA)


def test_saved_context_loads_as_it_was(tuned: TunedContext) -> None:
    loaded = load(save(tuned), width=8, vocabulary=97)
    (one,), (other,) = loaded.prompts, tuned.prompts
    assert loaded.metadata == METADATA
    assert one.tokens == other.tokens
    assert torch.equal(one.embedding, other.embedding)
    assert torch.equal(one.delta, other.delta)
    assert torch.equal(one.embeds, other.embedding + other.delta)


def whole(prompts: int) -> Classifier:
    """All that a classifier may hold."""
    plain = classifier(2, hidden=8, prompts=prompts)
    encoder = Head(torch.rand(3, 5), torch.rand(3, 5), torch.rand(3, 5, 2), torch.rand(2))
    mixtures = Mixture(torch.rand(3), torch.rand(2)), Mixture(torch.rand(2), torch.rand(2))
    head = replace(plain, encoder_head=encoder, encoder_change=torch.rand(2, 7))
    return replace(head, mixture=mixtures[0], shortlist=1, cheap=mixtures[1])


@pytest.mark.parametrize("prompts", [1, 2])
@pytest.mark.parametrize("everything", [True, False])
def test_classifier_loads_as_it_was(tuned: TunedContext, prompts: int, everything: bool) -> None:
    kept = whole(prompts) if everything else Classifier(torch.rand(prompts, 2), prior_mixture((0.5,), 2))
    metadata = METADATA | {"label_ids": [[1], [2, 3]]}
    loaded = load(save(TunedContext(tuned.prompts * prompts, metadata, kept))).classifier
    assert loaded is not None
    assert (loaded.shortlist, loaded.cheap is None) == (kept.shortlist, kept.cheap is None)
    changes = [torch.zeros(0) if one.encoder_change is None else one.encoder_change for one in (loaded, kept)]
    assert torch.equal(*changes)
    readings = [Reading(torch.randn(5, 2), torch.randn(len(VIEWS), 5, 8)) for _ in range(prompts)]
    vectors = torch.randn(3, 5, 5)
    assert torch.equal(loaded.probabilities(readings, vectors), kept.probabilities(readings, vectors))


def test_several_prompts_without_a_classifier_are_refused(tuned: TunedContext) -> None:
    with pytest.raises(ValueError, match="no classifier"):
        load(save(replace(tuned, prompts=tuned.prompts * 2)))


@pytest.mark.parametrize("name", ["shortlist", "encoder_weight", "encoder_change", "state_weight"])
def test_classifier_that_is_not_whole_is_refused(tuned: TunedContext, name: str) -> None:
    metadata = METADATA | {"label_ids": [[1], [2, 3]]}
    tensors = safetensors.torch.load(save(replace(tuned, metadata=metadata, classifier=whole(1))))
    tensors[f"classifier/{name}"] = torch.full((3, 4), 7.0)
    with pytest.raises(ValueError, match="expected shapes"):
        load(safetensors.torch.save(tensors, {"contextune": json.dumps(metadata)}))


def test_classifier_for_other_labels_is_refused(tuned: TunedContext) -> None:
    metadata = METADATA | {"label_ids": [[1], [2], [3]]}
    with pytest.raises(ValueError, match="expected shapes"):
        load(save(replace(tuned, metadata=metadata, classifier=classifier(2, hidden=8))))


def test_same_context_gives_the_same_bytes(tuned: TunedContext) -> None:
    reordered = dict(reversed(list(METADATA.items())))
    (one,) = tuned.prompts
    other = TunedContext((Prompt(one.tokens, one.embedding.clone(), one.delta.clone()),), reordered)
    assert save(tuned) == save(other)


def test_tensors_that_do_not_fit_the_tokens_are_not_saved(tuned: TunedContext) -> None:
    (one,) = tuned.prompts
    with pytest.raises(ValueError, match="shape"):
        save(TunedContext((Prompt(one.tokens, one.embedding[1:], one.delta[1:]),), METADATA))


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
    named = {f"prompts.0.{name}": tensor for name, tensor in (tensors | changes).items()}
    if classifier_bias is not None:
        named["classifier/bias"] = classifier_bias
    return safetensors.torch.save(named, {"contextune": metadata})


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


def with_size(size: Any) -> Callable[[dict[str, Any]], None]:
    """A change of a header whose tensors then have a dimension of this size."""

    def change(header: dict[str, Any]) -> None:
        for name in TENSORS:
            header[f"prompts.0.{name}"].update(shape=[3, size])

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["prompts.0.ids"].update(data_offsets=[0, 2**60]),
        lambda header: header["prompts.0.embedding"].update(shape=[2**40, 2**40]),
        lambda header: header.update(__metadata__=None),
        *map(with_size, (None, [], {}, float("inf"), True, -8, "8", 8.0)),
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
