import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from tests.worker.tiny import CONTEXT_LENGTH, causal_model, tokenizer
from worker.config import ModelSource
from worker.models import LanguageModel, load_language_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base model as people keep it."""
    causal_model().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(path: Path | str, **changes: Any) -> tuple[LanguageModel, list[str]]:
    """The model and the stages that were told."""
    stages: list[str] = []
    source = ModelSource(path=str(path), device="cpu", **changes)
    return load_language_model("tiny", source, Path("none"), stages.append), stages


def test_folder_is_loaded_frozen_and_measured(folder: Path) -> None:
    base, stages = load(folder)
    assert (base.id, base.device, base.context_length) == ("tiny", "cpu", CONTEXT_LENGTH)
    assert base.parameters == sum(weight.numel() for weight in causal_model().parameters())
    assert base.flops > 0
    assert stages == ["loading tiny"]
    assert not any(weight.requires_grad for weight in base.model.parameters())
    assert not base.model.training
    assert base.tokenizer("ab")["input_ids"] == tokenizer()("ab")["input_ids"]


def test_dtype_is_the_configured_one(folder: Path) -> None:
    assert load(folder, dtype="bfloat16")[0].model.dtype == torch.bfloat16
    assert load(folder)[0].model.dtype == torch.float32


def test_pickled_weights_are_never_read(folder: Path) -> None:
    torch.save(causal_model().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        load(folder)


def test_model_that_contexts_cannot_be_tuned_for_is_refused_by_name(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 64})
    )
    with pytest.raises(ValueError, match="sliding window"):
        load(folder)


def test_bloom_has_the_length_it_learned_from(folder: Path, tmp_path: Path) -> None:
    config = BloomConfig(vocab_size=258, hidden_size=16, n_layer=1, n_head=2, seq_length=128)
    BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    tokenizer().save_pretrained(tmp_path / "bloom")
    assert load(tmp_path / "bloom")[0].context_length == 128


def test_gguf_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.gguf")


def test_embedded_model_of_an_unknown_name_is_an_error() -> None:
    with pytest.raises(OSError, match="embedded:none"):
        load("embedded:none")
