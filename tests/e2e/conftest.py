"""The service that the gentle tests share."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contract.names import DEFAULT_MODELS
from tests.e2e.service import TINY, Service
from tests.worker.tiny import causal_model, tokenizer


@pytest.fixture(scope="session")
def service(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all tests that leave it as they found it, but for their own contexts.

    It has a second base model, tiny and random, for what need not make sense.
    """
    folder = tmp_path_factory.mktemp("tiny")
    causal_model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    allowed = {**DEFAULT_MODELS, TINY: {"path": str(folder), "device": "cpu"}}
    service = Service(tmp_path_factory.mktemp("service"), models, models=json.dumps(allowed))
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="session")
def tuned(service: Service) -> str:
    """Id of a context of the shared service that can answer."""
    return service.tuned(name="shared", metadata={"team": "cards"})


@pytest.fixture(scope="session")
def tiny(service: Service) -> str:
    """Id of a context of the shared service that can answer, for the tiny base model."""
    return service.tuned(name="of-the-tiny-model", model=TINY)
