"""The gateway's application in this process, spoken to without a socket."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from app.config import Settings
from app.main import create_app


async def take_turns(_: httpx.Request) -> None:
    """Let the gateway's other tasks run, as a socket would: a request need not wait for anything else."""
    await asyncio.sleep(0.01)


async def until_served(http: httpx.AsyncClient, model: str) -> None:
    """Return once the gateway sees a worker of a model."""
    seen = ""
    async with asyncio.timeout(60):
        while seen != "ready":
            seen = (await http.get("/health/ready")).json()["checks"]["models"][model]["status"]


def ask(settings: Settings, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a scenario against a started gateway."""

    async def whole() -> None:
        app = create_app(settings)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1", timeout=60, event_hooks={"request": [take_turns]}
            ) as http,
        ):
            await scenario(http)

    asyncio.run(whole())


def settings_without_servers(folder: Path) -> Settings:
    """Without the store nobody is known, so that only a service without keys gets to anything else."""
    store, bus = f"unix://{folder}/no-store", f"unix://{folder}/no-bus"
    return Settings(data_dir=folder, store_url=store, bus_url=bus, auth="off")
