"""Adapters that a worker checks: ours to the bit, PEFT's as PEFT answers, and every other refused by name."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from app.contract.adapters import ImportReply, ImportRequest
from app.contract.tuning import Template, TuningSpec
from app.records.store import Records
from tests.submissions import EXAMPLES
from tests.worker.tiny import CONTEXT_LENGTH, base_model, classifier, sentence_encoder, stored_context
from worker.artifacts import Artifacts, address_of
from worker.classification.preparing import loaded, prepare
from worker.classification.resident import UnusableContext
from worker.cpt.formats import peft
from worker.cpt.formats.bundle import Prompt, TunedContext, save
from worker.cpt.scoring.classifier import Classifier
from worker.device import Device
from worker.importing import imported
from worker.models import LanguageModel

LABELS = ("good", "bad")
Import = Callable[..., ImportReply]


@pytest.fixture
def tuned(base: LanguageModel, artifacts: Artifacts) -> TunedContext:
    address = stored_context(base, artifacts, TuningSpec(examples=EXAMPLES), delta=0.01)
    return loaded(base, artifacts.get(address))


@pytest.fixture
def taken(base: LanguageModel, artifacts: Artifacts, records: Records, tmp_path: Path) -> Import:
    """Imports a safetensors file, into ``uploads/made``."""
    uploads = tmp_path / "artifacts" / "uploads"

    def take(tensors: bytes, here: LanguageModel = base, **fields: Any) -> ImportReply:
        uploads.mkdir(parents=True, exist_ok=True)
        (uploads / "given").write_bytes(tensors)
        gateway = records.written_for("imp_1", "uploads/made")
        with gateway:
            device = Device()
            try:
                request = ImportRequest(
                    id="imp_2", reply_to="r", model="tiny", tensors="uploads/given", target="uploads/made", **fields
                )
                reply = imported(here, device, artifacts, records, request)
            finally:
                device.stop()
            made = uploads / "made"
            assert made.exists() == (reply.failure is None), "nothing is written of what is refused"
            if reply.imported is not None:
                content = made.read_bytes()
                assert (reply.imported.size, reply.imported.sha256) == (len(content), address_of(content))
        return reply

    return take


def refused(reply: ImportReply) -> tuple[str, str | None]:
    assert reply.failure is not None
    return str(reply.failure.code), reply.failure.param


def test_our_own_is_taken_as_it_is(base: LanguageModel, tuned: TunedContext, taken: Import) -> None:
    for head in (None, classifier(len(LABELS))):
        content = save(replace(tuned, classifier=head))
        reply = taken(content)
        assert reply.imported is not None, reply.failure
        assert reply.imported.sha256 == address_of(content)
        assert (reply.imported.labels, reply.imported.tokens) == (LABELS, len(tuned.prompts[0].tokens))


def test_adapter_of_peft_answers_by_its_label_scores(
    base: LanguageModel, tuned: TunedContext, taken: Import, tmp_path: Path
) -> None:
    files = peft.write(tuned.prompts[0], "elsewhere")
    reply = taken(files[peft.WEIGHTS], config=files[peft.CONFIG].decode(), labels=LABELS)
    assert reply.imported is not None, reply.failure
    assert (reply.imported.labels, reply.imported.tokens) == (LABELS, len(tuned.prompts[0].tokens))


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"labels": ("caf\u00e9", "cafe\u0301")}, "labels_indistinguishable", "/labels"),
        ({"labels": LABELS, "config": "{"}, "adapter_invalid", "/file"),
        ({"labels": LABELS, "config": '{"peft_type": "LORA"}'}, "adapter_invalid", "/file"),
        ({"labels": tuple(f"{n}{'x' * 900}" for n in range(3))}, "text_too_long", "/labels"),
        ({"labels": LABELS, "template": Template(between="-" * CONTEXT_LENGTH)}, "context_too_long", "/file"),
    ],
)
def test_adapter_of_peft_that_does_not_fit_is_refused(
    tuned: TunedContext, taken: Import, fields: dict[str, Any], code: str, param: str
) -> None:
    files = peft.write(tuned.prompts[0], "elsewhere")
    given = {"config": files[peft.CONFIG].decode(), **fields}
    assert refused(taken(files[peft.WEIGHTS], **given)) == (code, param)


def test_tensors_that_are_not_an_adapters_are_refused(tuned: TunedContext, taken: Import) -> None:
    whole, prompt = save(tuned), tuned.prompts[0]
    huge = torch.full_like(prompt.delta, 3e38)
    wide = Prompt(prompt.tokens, prompt.embedding.repeat(1, 2), prompt.delta.repeat(1, 2))
    for content in (
        b"",
        b"PK\x03\x04",
        whole[:-1],
        whole[: len(whole) // 2],
        safetensors.torch.save({"x": torch.zeros(1)}),
        save(replace(tuned, prompts=(wide,))),
        save(replace(tuned, prompts=(replace(prompt, delta=prompt.delta / 0),))),
        save(replace(tuned, prompts=(replace(prompt, embedding=huge, delta=huge),))),
        save(replace(tuned, prompts=(prompt, prompt))),
        save(replace(tuned, classifier=classifier(3))),
    ):
        assert refused(taken(content)) == ("adapter_invalid", "/file")


@pytest.mark.parametrize(
    "said",
    [
        {"labels": None},
        {"labels": ["good", "good"]},
        {"labels": ["good"], "label_ids": [[73]]},
        {"labels": [" good", "bad"]},
        {"label_ids": [[5], [6]]},
        {"label_ids": [[10**6], [6]]},
        {"label_ids": "none"},
        {"template": {"input": "no place for it"}},
        {"template": {"unknown": "part"}},
        {"template": None},
        {"label_ids": []},
        {"label_ids": [[], []]},
        {"label_ids": [], "model_sha256": "x"},
        {"model_sha256": {"a": 1}},
        {"context_id": 5},
        {"encoder": {"a": 1}},
        {"encoder": 5},
        {"encoder": "encoder 0"},
    ],
)
def test_what_an_artifact_says_is_not_trusted(tuned: TunedContext, taken: Import, said: dict[str, Any]) -> None:
    content = save(replace(tuned, metadata={**tuned.metadata, **said}))
    assert refused(taken(content)) == ("adapter_invalid", "/file")


@pytest.mark.parametrize("number", [str, float])
def test_tokens_of_labels_are_whole_numbers(tuned: TunedContext, taken: Import, number: Callable[[int], Any]) -> None:
    ids = [[number(one) for one in label] for label in tuned.metadata["label_ids"]]
    content = save(replace(tuned, metadata={**tuned.metadata, "label_ids": ids}))
    assert refused(taken(content)) == ("adapter_invalid", "/file")


@pytest.mark.parametrize(
    "junk", ['"junk": NaN', '"junk": "\\ud800"', '"sha256": "00", "prompts": 77, "context": {}, "format": 1']
)
def test_only_what_is_known_of_an_artifact_is_kept(tuned: TunedContext, taken: Import, junk: str) -> None:
    content = save(tuned)

    def add(header: dict[str, Any]) -> None:
        header["__metadata__"]["contextune"] = header["__metadata__"]["contextune"][:-1] + f", {junk}}}"

    reply = taken(with_header(content, add))
    assert reply.imported is not None, reply.failure
    assert reply.imported.sha256 == address_of(content)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("size", [None, [], {}, float("inf"), True, -1, "x", 16.0])
def test_sizes_that_are_no_whole_numbers_are_refused(tuned: TunedContext, taken: Import, place: int, size: Any) -> None:
    def state(header: dict[str, Any]) -> None:
        for name, entry in header.items():
            if name.startswith("prompts.") and place < len(entry["shape"]):
                entry["shape"][place] = size

    assert refused(taken(with_header(save(tuned), state))) == ("adapter_invalid", "/file")


def with_header(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A safetensors file with another header."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def test_artifact_of_other_files_or_of_another_encoder_is_refused(
    base: LanguageModel, tuned: TunedContext, taken: Import
) -> None:
    assert refused(taken(save(tuned), here=base_model(seed=1))) == ("model_changed", "/file")
    head = _encoder_head(classifier(len(LABELS)), size=24)
    needs = _needing(tuned, head)
    assert refused(taken(needs)) == ("model_changed", "/file")
    assert refused(taken(needs, here=replace(base, encoders=(sentence_encoder(1),)))) == ("model_changed", "/file")
    here = replace(base, encoders=(sentence_encoder(0),))
    made = taken(needs, here=here).imported
    assert made
    assert made.encoder == "encoder 0"
    made = taken(_needing(tuned, replace(head, encoder_change=torch.zeros(2, 144))), here=here).imported
    assert made
    for wrong in (
        _encoder_head(classifier(len(LABELS)), 25),
        _encoder_head(classifier(len(LABELS)), 24, layers=3),
        replace(head, encoder_change=torch.zeros(2, 143)),
    ):
        assert refused(taken(_needing(tuned, wrong), here=here)) == ("adapter_invalid", "/file")
        assert refused(taken(save(replace(tuned, classifier=wrong)), here=here)) == ("adapter_invalid", "/file")
        with pytest.raises(UnusableContext, match="does not fit the sentence encoder"):
            prepare(here, _needing(tuned, wrong))


def _needing(tuned: TunedContext, head: Classifier) -> bytes:
    """An artifact that needs a sentence encoder."""
    return save(replace(tuned, metadata={**tuned.metadata, "encoder": "encoder 0"}, classifier=head))


def _encoder_head(whole: Classifier, size: int, layers: int = 1) -> Classifier:
    head, shape = whole.state_heads[0], (layers, size)
    fitted = replace(head, center=torch.zeros(shape), scale=torch.ones(shape), weight=torch.zeros(*shape, len(LABELS)))
    return replace(whole, state_heads=(), encoder_head=fitted)


@pytest.mark.parametrize("prompts", [8, 9])
def test_no_more_prompts_are_taken_than_memory_should_hold(tuned: TunedContext, taken: Import, prompts: int) -> None:
    head = classifier(len(LABELS), prompts=prompts)
    reply = taken(save(replace(tuned, prompts=tuned.prompts * prompts, classifier=head)))
    if prompts > 8:
        assert refused(reply) == ("adapter_invalid", "/file")
    else:
        assert reply.imported is not None, reply.failure
        assert reply.imported.tokens == prompts * len(tuned.prompts[0].tokens) > CONTEXT_LENGTH
