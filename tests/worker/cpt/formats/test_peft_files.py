"""Prompts go to PEFT and come from it, and score the same there."""

import copy
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.worker.cpt.oracle import Oracle
from tests.worker.cpt.tasks import VOCABULARY, Task
from worker.cpt.formats.bundle import Prompt
from worker.cpt.formats.peft import CONFIG, WEIGHTS, read, write
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score

# PEFT reads an attribute that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

QUERY, LABELS = [30, 31, 32], [[60], [61, 62], [63, 64, 65]]


def prompt_of(model: Any, task: Task) -> Prompt:
    embedding = word_embeddings(model, task.context.tokens.ids)
    delta = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0)) / 10
    return Prompt(task.context.tokens, embedding, delta)


def by_peft(model: Any, folder: Path) -> Tensor:
    """[L] scores of the labels after the query, by PEFT's own forward."""
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()
    scores = []
    for label in LABELS:
        ids = torch.tensor([QUERY + label])
        types = torch.zeros_like(ids)
        with torch.no_grad():
            logits = loaded(input_ids=ids, attention_mask=torch.ones_like(ids), input_type_mask=types).logits
        log_p = logits[0, -len(label) - 1 : -1].log_softmax(-1)
        scores.append(log_p[range(len(label)), label].sum())
    return torch.stack(scores)


def ours(model: Any, prompt: Prompt) -> Tensor:
    return score(model, PrefixKV.compute(model, prompt.embeds), LABELS, [QUERY])[0]


def test_written_prompt_loads_in_peft_and_scores_the_same(any_model: Any, task: Task, tmp_path: Path) -> None:
    plain, prompt = copy.deepcopy(any_model), prompt_of(any_model, task)
    for name, content in write(prompt, "tiny").items():
        (tmp_path / name).write_bytes(content)
    torch.testing.assert_close(by_peft(plain, tmp_path), ours(any_model, prompt), rtol=1e-4, atol=1e-4)


def test_adapter_that_peft_trained_is_read_and_scores_the_same(any_model: Any, task: Task, tmp_path: Path) -> None:
    plain = copy.deepcopy(any_model)
    oracle = Oracle.of(copy.deepcopy(any_model), task.config())
    optimizer = torch.optim.AdamW([oracle.delta], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        oracle.loss(task.training).backward()
        optimizer.step()
    oracle.model.save_pretrained(tmp_path)
    files = [(tmp_path / name).read_bytes() for name in (CONFIG, WEIGHTS)]
    prompt = read(files[0], files[1], lambda ids: word_embeddings(any_model, ids), VOCABULARY, 1000)
    assert prompt.tokens.reference_types() == task.context.tokens.reference_types()
    assert float(prompt.delta.abs().max()) > 0
    torch.testing.assert_close(ours(any_model, prompt), by_peft(plain, tmp_path), rtol=1e-4, atol=1e-4)


def test_prompt_that_was_written_is_read_again(llama: Any, task: Task) -> None:
    prompt = prompt_of(llama, task)
    files = write(prompt, "tiny")
    again = read(files[CONFIG], files[WEIGHTS], lambda ids: word_embeddings(llama, ids), VOCABULARY, 1000)
    assert again.tokens == prompt.tokens
    torch.testing.assert_close(again.embeds, prompt.embeds)
    assert write(prompt, "tiny") == files


def changed(config: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(config), **fields}).encode()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"peft_type": "LORA"}, "not that of a CPT adapter"),
        ({"task_type": "SEQ_CLS"}, "not that of a CPT adapter"),
        ({"cpt_token_ids": [1]}, "must be of one length"),
        ({"cpt_token_ids": [], "cpt_tokens_type_mask": []}, "must be of one length"),
        ({"cpt_token_ids": "1, 2"}, "must be a list of integers"),
        ({"cpt_token_ids": [True]}, "must be a list of integers"),
        ({"cpt_token_ids": [VOCABULARY], "cpt_tokens_type_mask": [0]}, "outside the model's vocabulary"),
        ({"cpt_token_ids": [1], "cpt_tokens_type_mask": [9]}, "unknown token types"),
        ({"cpt_token_ids": [1, 2], "cpt_tokens_type_mask": [0, 0]}, "this model needs"),
        ({"cpt_token_ids": [1] * 101, "cpt_tokens_type_mask": [0] * 101}, "has 101 tokens; the model takes 100"),
    ],
)
def test_config_that_does_not_fit_is_refused(llama: Any, task: Task, config: dict[str, Any], reason: str) -> None:
    files = write(prompt_of(llama, task), "tiny")

    def embeddings(ids: Sequence[int]) -> Tensor:
        return word_embeddings(llama, ids)

    with pytest.raises(ValueError, match=reason):
        read(changed(files[CONFIG], **config), files[WEIGHTS], embeddings, VOCABULARY, 100)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("F16", 16), ("BF16", 16), ("F32", 32), ("F64", 64), ("F8_E4M3", 8), ("F8_E8M0", 8), ("F6_E2M3", 6), ("F4", 4)],
)
def test_weights_of_the_types_that_peft_writes_are_read(llama: Any, task: Task, dtype: str, bits: int) -> None:
    files = write(prompt_of(llama, task), "tiny")
    shape = [len(task.context), llama.config.hidden_size]
    size = shape[0] * shape[1] * bits // 8
    header = json.dumps({"prompt_embeddings": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(size)

    def again() -> Prompt:
        return read(files[CONFIG], weights, lambda ids: word_embeddings(llama, ids), VOCABULARY, 1000)

    if bits < 16:
        with pytest.raises(ValueError, match="must hold"):
            again()
    else:
        assert again().embeds.dtype == torch.float32


@pytest.mark.parametrize("weights", ["none", "other", "nan", "integers", "large"])
def test_weights_that_do_not_fit_are_refused(llama: Any, task: Task, weights: str) -> None:
    prompt = prompt_of(llama, task)
    files, whole = write(prompt, "tiny"), prompt.embeds
    blobs = {
        "none": b"PK\x03\x04 no safetensors",
        "other": safetensors.torch.save({"lora_A": whole}),
        "nan": safetensors.torch.save({"prompt_embeddings": whole / 0}),
        "large": safetensors.torch.save({"prompt_embeddings": whole.double() * 1e300}),
        "integers": safetensors.torch.save({"prompt_embeddings": whole.long()}),
    }
    with pytest.raises(ValueError, match=r"is not a safetensors file|must hold"):
        read(files[CONFIG], blobs[weights], lambda ids: word_embeddings(llama, ids), VOCABULARY, 1000)
    with pytest.raises(ValueError, match="is not JSON"):
        read(b"{", files[WEIGHTS], lambda ids: word_embeddings(llama, ids), VOCABULARY, 1000)
