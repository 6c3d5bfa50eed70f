"""The base model of the pages' service is unpacked once and kept from one run to the next."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where dequantised models are kept; that of the end-to-end tests."""
    cache = getattr(pytestconfig, "cache", None)
    return Path(cache.mkdir("models") if cache else tmp_path_factory.mktemp("models"))
