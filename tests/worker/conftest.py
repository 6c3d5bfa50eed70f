"""Base models for the tests: tiny random ones of each architecture, and the real default model."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.waiting import eventually
from tests.worker.architectures import MODELS, MORE_MODELS, tiny_model
from tests.worker.hearing import CHANNEL
from tests.worker.tiny import base_model
from worker.artifacts import Artifacts
from worker.config import ModelSource
from worker.cpt.kernels.lanes import on_threads
from worker.models import LanguageModel, load_language_model


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices gain nothing from threads, which lose much on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For what threads themselves are about."""
    with on_threads(2):
        yield


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
def smollm2_folder(models: Path) -> Path:
    """The default base model as a transformers folder, unpacked once and kept from one run to the next."""
    source = ModelSource(path="embedded:smollm2-135m-instruct")
    return Path(load_language_model("smollm2", source, models, lambda _: None).model.name_or_path)


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


@pytest.fixture
def bus_client(bus_url: str) -> Iterator[redis.Redis]:
    """A client of the bus, which is empty."""
    with redis.Redis.from_url(bus_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def replies(bus_client: redis.Redis) -> Iterator[Any]:
    """What is said on the channel of a gateway."""
    with bus_client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(CHANNEL)
        eventually(lambda: bus_client.pubsub_numsub(CHANNEL) == [(CHANNEL, 1)])
        yield pubsub
