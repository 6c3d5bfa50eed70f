"""A gateway whose store holds keys and the objects of tenants, asked in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI

from app.access.secrets import hash_of, new_secret
from app.config import Settings
from app.contract.access import ALL_SCOPES, KeyLimits, Scope
from app.contract.names import DEFAULT_TENANT
from app.main import create_app
from app.records.connection import new_id
from app.records.store import Records


@dataclass
class Service:
    """A started gateway; ``http`` sends no key by itself."""

    app: FastAPI
    http: httpx.AsyncClient
    records: Records = field(init=False)

    def __post_init__(self) -> None:
        self.records = self.app.state.gateway.records

    def key(self, *scopes: Scope, tenant: str = DEFAULT_TENANT, **limits: int) -> str:
        """The secret of a new key in the store."""
        secret = new_secret()
        self.records.access.create_key(
            new_id("key"), hash_of(secret), tenant, "test", scopes or ALL_SCOPES, KeyLimits(**limits), None
        )
        return secret

    async def ask(self, secret: str | None, method: str, path: str, **request: Any) -> httpx.Response:
        """The answer to whoever has a key."""
        headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
        return await self.http.request(method, path, headers={**headers, **request.pop("headers", {})}, **request)


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Service]:
    """A gateway with these settings, for as long as the block lasts."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as http,
    ):
        yield Service(app, http)


def serve(settings: Settings, scenario: Callable[[Service], Awaitable[None]]) -> None:
    """Run a scenario against a started gateway."""

    async def whole() -> None:
        async with started(settings) as service:
            await scenario(service)

    asyncio.run(whole())
