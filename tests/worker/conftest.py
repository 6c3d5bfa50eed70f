"""Base models for the tests: tiny random ones of each architecture, and the real default model."""

import gc
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.worker.tiny import base_model
from worker.artifacts import Artifacts
from worker.models import LanguageModel

VOCABULARY = 97
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def _llama_like(config: Any, model: Any, **sizes: int) -> Any:
    shared = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    return model(config(vocab_size=VOCABULARY, num_key_value_heads=2, **(shared | sizes)))


def _gpt_neox() -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=VOCABULARY, **sizes))


def _opt() -> Any:
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 3}
    return OPTForCausalLM(OPTConfig(vocab_size=VOCABULARY, num_attention_heads=4, **sizes))


def _bloom() -> Any:
    return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=24, n_layer=3, n_head=3))


def _gemma() -> Any:
    return _llama_like(GemmaConfig, GemmaForCausalLM, head_dim=8)


def _mistral() -> Any:
    return _llama_like(MistralConfig, MistralForCausalLM, sliding_window=128)


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: _llama_like(LlamaConfig, LlamaForCausalLM),
    "qwen2": lambda: _llama_like(Qwen2Config, Qwen2ForCausalLM),
    "qwen3": lambda: _llama_like(Qwen3Config, Qwen3ForCausalLM, head_dim=16),
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "bloom": _bloom,
}
#: The oracle judges these too; for what does not depend on the architecture those above are enough.
MORE_MODELS: dict[str, Callable[[], Any]] = {"gemma": _gemma, "mistral": _mistral}


def _tiny(architecture: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (MODELS | MORE_MODELS)[architecture]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(3)  # Fresh matrices are so small that attention would hardly matter.
    return model


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices gain nothing from threads, which lose much on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    """A tiny random model, of each architecture in turn."""
    return _tiny(request.param)


@pytest.fixture(params=MODELS | MORE_MODELS)
def any_model(request: pytest.FixtureRequest) -> Any:
    """The same of more architectures."""
    return _tiny(request.param)


@pytest.fixture
def llama() -> Any:
    """A tiny random Llama, for what does not depend on the architecture."""
    return _tiny("llama")


@pytest.fixture(scope="session")
def smollm2_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default base model as a transformers folder, dequantised once and kept in pytest's cache."""
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("smollm2") if cache else tmp_path_factory.mktemp("smollm2")
    if not (folder / "complete").exists():
        spec = find_spec("contextune_smollm2")
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).parent
        AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
        # The weights are dequantised by now, but transformers would refuse to save them as a GGUF model's.
        del model.config.quantization_config, model.hf_quantizer, model.is_quantized, model.quantization_method
        model.save_pretrained(folder)
        (folder / "complete").touch()
    return Path(folder)


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path) -> Any:
    """The default base model, shared by all tests."""
    return AutoModelForCausalLM.from_pretrained(smollm2_folder).eval()


@pytest.fixture(scope="session")
def tokenizer(smollm2_folder: Path) -> Any:
    """The default base model's tokenizer."""
    return AutoTokenizer.from_pretrained(smollm2_folder)


@pytest.fixture(scope="session")
def base() -> LanguageModel:
    """A tiny random base model that reads any text."""
    return base_model()


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """An empty place for artifacts."""
    return Artifacts(f"file://{tmp_path}/artifacts")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No garbage collection: it knows nothing of how large tensors are, and may come too late."""
    gc.disable()
    yield
    gc.enable()
