from pathlib import Path

import pytest

from app.config import Settings


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    """A gateway on the loopback address, with an empty store."""
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url, models=("tiny",))
