"""The gateway as it starts and stops."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.config import Settings
from app.main import create_app
from tests.waiting import eventually


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No garbage collection, which closes what was forgotten."""
    gc.disable()
    yield
    gc.enable()


def test_gateway_that_stops_at_once_leaves_no_connection(
    client: redis.Redis, store_url: str, bus_url: str, tmp_path: Path, no_collector: None
) -> None:
    settings = Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)

    async def start_and_stop() -> None:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            pass

    def connections() -> int:
        return int(client.info("clients")["connected_clients"])

    before = connections()
    for _ in range(3):
        asyncio.run(start_and_stop())
    eventually(lambda: connections() == before)
