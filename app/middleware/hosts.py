"""Which names of this service a request may use: any other could be a web page's that had its name lead here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.contract.names import ErrorCode
from app.errors import DomainError
from app.paths import own_path
from app.problems import problem_response

#: A name or an IPv4 address, or an IPv6 address in brackets; then a port, perhaps.
_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
#: Asked by load balancers and scrapers, by whatever address they know; they say nothing of users.
_EXEMPT: Final = ("/health/", "/metrics")


class HostMiddleware:
    """Refuses a request whose ``Host`` is none of the service's with 421 (DNS rebinding).

    The service's are loopback names, ``bound`` (the address it listens on) unless that is every address, and
    ``allowed``, in which ``*`` is any name and ``*.name`` any below it. Ports are ignored.
    """

    def __init__(self, app: ASGIApp, bound: str, allowed: Sequence[str]) -> None:
        self.app = app
        self._names = {_without_brackets(name.lower()) for name in (bound, *allowed) if name not in ("0.0.0.0", "::")}  # noqa: S104
        self._suffixes = tuple(name[1:] for name in self._names if name.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        request = Request(scope) if scope["type"] == "http" else None
        if request is None or _exempt(scope) or self._allows(request.headers.get("host", "")):
            await self.app(scope, receive, send)
            return
        detail = "this host name is not one of the service's; add it to CONTEXTUNE_ALLOWED_HOSTS to use it"
        await problem_response(request, DomainError(ErrorCode.HOST_NOT_ALLOWED, detail))(scope, receive, send)

    def _allows(self, host: str) -> bool:
        if "*" in self._names:
            return True
        if not (match := _HOST.fullmatch(host)):
            return False
        name = _without_brackets(match["name"].lower()).removesuffix(".")
        return name in self._names or name.endswith(self._suffixes) or _loopback(name)


def _exempt(scope: Scope) -> bool:
    return own_path(scope).startswith(_EXEMPT)


def _without_brackets(name: str) -> str:
    return name.removeprefix("[").removesuffix("]")


def _loopback(name: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761, 6.3
