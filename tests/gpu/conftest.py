"""Tests of a real GPU, run by `make test-gpu` alone; with ``--device cpu`` their logic runs without one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.architectures import MODELS, MORE_MODELS, tiny_model
from worker.config import ModelSource
from worker.models import LanguageModel, load_language_model


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cuda:0")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to begin without the device."""
    refuse_absent(config.getoption("--device", default="cpu"))


def refuse_absent(device: str) -> None:
    """Raises UsageError, one line, for a GPU that is not there."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError(
            f"There is no {device} here; --device cpu tries the logic of these tests without a GPU."
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The libraries of a machine with a GPU are its own: what they warn of is no failure."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("default"), append=False)


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    """The device of ``--device``; no test passes without it."""
    return torch.device(pytestconfig.getoption("--device"))


@pytest.fixture(params=MODELS | MORE_MODELS)
def model(request: pytest.FixtureRequest, device: torch.device) -> Any:
    """A tiny random model, of each architecture in turn."""
    return tiny_model(request.param).to(device)


@pytest.fixture(scope="session")
def default_models(
    tmp_path_factory: pytest.TempPathFactory, device: torch.device
) -> tuple[LanguageModel, LanguageModel]:
    """The default model on the CPU and on the device."""
    cache: Path = tmp_path_factory.mktemp("models")
    return _default("cpu", cache), _default(str(device), cache)


def _default(device: str, cache: Path) -> LanguageModel:
    source = ModelSource(path="embedded:smollm2-135m-instruct", device=device)
    return load_language_model("smollm2-135m-instruct", source, cache, lambda _: None)
