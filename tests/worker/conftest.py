"""Base models for the tests: tiny random ones of each architecture, and the real default model."""

import gc
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.worker.architectures import MODELS, MORE_MODELS, tiny_model
from tests.worker.tiny import base_model
from worker.artifacts import Artifacts
from worker.models import LanguageModel

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices gain nothing from threads, which lose much on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    """A tiny random model, of each architecture in turn."""
    return tiny_model(request.param)


@pytest.fixture(params=MODELS | MORE_MODELS)
def any_model(request: pytest.FixtureRequest) -> Any:
    """The same of more architectures."""
    return tiny_model(request.param)


@pytest.fixture
def llama() -> Any:
    """A tiny random Llama, for what does not depend on the architecture."""
    return tiny_model("llama")


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
