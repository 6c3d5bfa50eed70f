"""What a reverse proxy says of the client: read from the proxies that are trusted, removed from everybody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORWARDED: Final = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-real-ip",
)


class ProxyMiddleware:
    """Puts the client, scheme and host that a trusted proxy names in place of the proxy's own.

    ``state.forwarded`` says whether the request had any such header, trusted or not.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self.app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] == "http":
            sent = Headers(scope=scope)
            scope["headers"] = [header for header in scope["headers"] if header[0].lower() not in _FORWARDED]
            scope.setdefault("state", {})["forwarded"] = len(scope["headers"]) < len(sent.raw)
            if self._trusts(scope.get("client")):
                self._take_over(scope, sent)
        await self.app(scope, receive, send)

    def _take_over(self, scope: Scope, sent: Headers) -> None:
        if host := _last(sent.get("x-forwarded-host")):
            others = [header for header in scope["headers"] if header[0].lower() != b"host"]
            scope["headers"] = [*others, (b"host", host.encode("latin-1"))]
        scheme = _last(sent.get("x-forwarded-proto"))
        if scheme in ("http", "https"):
            scope["scheme"] = scheme
        # The first address from the right that is no proxy of ours: what stands left of it anybody may have written.
        for address in reversed(_all(sent.getlist("x-forwarded-for"))):
            scope["client"] = (address, 0)
            if not self._trusts(scope["client"]):
                break

    def _trusts(self, client: tuple[str, int] | None) -> bool:
        if client is None:
            return False
        try:
            address = ipaddress.ip_address(client[0])
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _all(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _last(value: str | None) -> str:
    """What the nearest proxy wrote: it appends."""
    return (value or "").rpartition(",")[2].strip()
