import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, MistralConfig, MistralForCausalLM

from tests.worker.tiny import CONTEXT_LENGTH, causal_model, tokenizer
from worker.config import ModelSource
from worker.models import LanguageModel, _dequantised_dtype, _gguf_file, dtype_for, load_language_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base model as people keep it."""
    save(causal_model(), tmp_path / "model")
    return tmp_path / "model"


def save(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def load(path: Path | str, **changes: Any) -> tuple[LanguageModel, list[str]]:
    """The model and the stages that were told."""
    stages: list[str] = []
    source = ModelSource(path=str(path), **({"device": "cpu"} | changes))
    return load_language_model("tiny", source, Path(path).parent / "cache", stages.append), stages


def test_folder_is_loaded_frozen_and_measured(folder: Path) -> None:
    base, stages = load(folder)
    assert (base.id, base.device, base.context_length) == ("tiny", "cpu", CONTEXT_LENGTH)
    assert base.parameters == sum(weight.numel() for weight in causal_model().parameters())
    assert base.flops > 0
    assert stages[0] == "loading tiny"
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
        json.dumps({**config, "model_type": "llama4_text", "architectures": ["Llama4ForCausalLM"]})
    )
    with pytest.raises(ValueError, match="chunked_attention layers"):
        load(folder)


def test_window_of_sliding_attention_is_the_context_length(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = MistralConfig(vocab_size=258, num_hidden_layers=1, sliding_window=64, **sizes)
    save(MistralForCausalLM(config), tmp_path)
    assert load(tmp_path)[0].context_length == 64


def test_norm_of_the_embeddings_is_that_of_what_layers_get(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8}
    config = GemmaConfig(vocab_size=258, num_hidden_layers=1, num_key_value_heads=1, **sizes)
    save(GemmaForCausalLM(config), tmp_path)
    base = load(tmp_path)[0]
    norms = base.model.get_input_embeddings().weight.norm(dim=1)
    assert base.embedding_norm == pytest.approx(4 * norms.mean().item(), rel=1e-5)


@pytest.mark.parametrize("device", ["cuda:7", "gpu", "mps"])
def test_device_that_is_not_there_is_refused_by_name(folder: Path, device: str) -> None:
    with pytest.raises(ValueError, match=f"no device '{device}': this machine has cpu"):
        load(folder, device=device)


@pytest.mark.parametrize(
    ("device", "hidden", "expected"),
    [("cpu", 4096, torch.float32), ("cuda:0", 576, torch.float32), ("cuda:0", 4096, torch.bfloat16)],
)
def test_large_models_are_loaded_in_bfloat16_on_gpus(device: str, hidden: int, expected: torch.dtype) -> None:
    layers = {"num_hidden_layers": 4, "num_attention_heads": 32, "intermediate_size": 4 * hidden}
    config = LlamaConfig(vocab_size=64000, hidden_size=hidden, **layers)
    assert dtype_for("auto", device, config) == expected
    assert dtype_for("float32", device, config) == torch.float32


def test_half_precision_that_gradients_vanish_in_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ValueError, match="float16: contexts cannot be tuned in it"):
        load(folder, dtype="float16")


def test_fingerprint_is_that_of_the_files_wherever_they_are(folder: Path, tmp_path: Path) -> None:
    first, stages = load(folder)
    assert first.revision is None
    assert "hashing the files of tiny" in stages
    again, stages = load(folder)
    assert again.fingerprint == first.fingerprint
    assert "hashing the files of tiny" not in stages
    shutil.copytree(folder, tmp_path / "copy")
    assert load(tmp_path / "copy")[0].fingerprint == first.fingerprint


def test_other_weights_have_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    save(causal_model(seed=1), tmp_path / "other")
    assert load(tmp_path / "other")[0].fingerprint != load(folder)[0].fingerprint


def test_weights_of_a_gguf_file_are_dequantised_into_the_dtype_that_they_are_loaded_in(tmp_path: Path) -> None:
    nowhere = tmp_path / "none.gguf"
    assert _dequantised_dtype("auto", "cpu", nowhere) == torch.float32
    assert _dequantised_dtype("bfloat16", "cuda:0", nowhere) == torch.bfloat16


def test_gguf_file_that_is_installed_again_is_not_dequantised_again(
    smollm2_folder: Path, models: Path, tmp_path: Path
) -> None:
    packed = _gguf_file("embedded:smollm2-135m-instruct")
    assert packed is not None
    stages: list[str] = []
    again = shutil.copy(packed, tmp_path)
    found = load_language_model("again", ModelSource(path=str(again)), models, stages.append)
    assert found.model.name_or_path == str(smollm2_folder)
    assert not [stage for stage in stages if "dequantising" in stage]


def test_gguf_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.gguf")


def test_embedded_model_of_an_unknown_name_is_an_error() -> None:
    with pytest.raises(OSError, match="embedded:none"):
        load("embedded:none")
