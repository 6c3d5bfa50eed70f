"""The service that the gentle tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import Service


@pytest.fixture(scope="session")
def models(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where dequantised models are kept from one run to the next."""
    cache = getattr(pytestconfig, "cache", None)
    return Path(cache.mkdir("models") if cache else tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def service(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all tests that leave it as they found it, but for their own contexts."""
    service = Service(tmp_path_factory.mktemp("service"), models)
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="session")
def tuned(service: Service) -> str:
    """Id of a context of the shared service that can answer."""
    return service.tuned(name="shared", metadata={"team": "cards"})
