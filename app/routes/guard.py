"""What each route declares about access, and the class of route that enforces it before a body is read.

A route takes part by its router's class and one dependency::

    router = APIRouter(route_class=GuardedRoute)

    @router.post("/contexts", dependencies=[needs(Scope.CONTEXTS_WRITE, change="context.create")])

A route without a declaration cannot be defined.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from fastapi import Depends, Request, params
from fastapi.openapi.models import HTTPBearer
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from app.access.callers import Caller
from app.access.limits import LimitDecision
from app.contract.access import Outcome, Scope
from app.contract.names import ErrorCode
from app.errors import DomainError
from app.gateway import Gateway
from app.problems import problem_response
from app.records.connection import StoreUnavailable
from app.routes.openapi import with_problems

#: What a request to any guarded route may be answered with.
_REFUSALS: Final = (
    ErrorCode.KEY_REQUIRED,
    ErrorCode.KEY_INVALID,
    ErrorCode.INSUFFICIENT_SCOPE,
    ErrorCode.RATE_LIMITED,
    ErrorCode.STORE_UNAVAILABLE,
)
#: Ids that are ours: what else stands in a path is a user's word.
_JOB_ID: Final = re.compile(r"(job|batch)_[0-9a-f]+")
_CONTEXT_ID: Final = re.compile(r"ctx_[0-9a-f]+")
_SCHEME: Final = HTTPBearer(bearerFormat="ctk_…", description="A key of `POST /keys`")


class Needs(SecurityBase):
    """A route for callers with one of ``scopes``; ``change`` names in the audit log what the route changes.

    ``unless`` names a setting that opens the route to everybody.
    """

    def __init__(self, *scopes: Scope, change: str | None = None, unless: str | None = None) -> None:
        self.scopes = scopes
        self.change = change
        self._unless = unless
        self.model = _SCHEME
        self.scheme_name = "key"

    async def __call__(self) -> None:
        """Nothing is left to do: `GuardedRoute` has done it."""

    def applies(self, gateway: Gateway) -> bool:
        """Whether the service's settings leave the route guarded."""
        return self._unless is None or not getattr(gateway.settings, self._unless)


class Public:
    """A route for whoever reaches the service."""

    async def __call__(self) -> None:
        """Nothing is to be done."""


def needs(*scopes: Scope, change: str | None = None, unless: str | None = None) -> Any:
    """The dependency of a route for callers with one of ``scopes``, as `Needs`."""
    return Depends(Needs(*scopes, change=change, unless=unless))


PUBLIC: Final[Any] = Depends(Public())


class GuardedRoute(APIRoute):
    """A route that admits callers by what it declares. Raises TypeError where it declares nothing."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        declared = [_declaration(dependency) for dependency in options.get("dependencies") or ()]
        self.access = next((one for one in declared if one is not None), None)
        if self.access is None:
            raise TypeError(f"the route {path} does not say who may use it")
        if isinstance(self.access, Needs):
            options["responses"] = with_problems(options.get("responses") or {}, *_REFUSALS)
        super().__init__(path, endpoint, **options)

    async def handle(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Admit the caller and answer, or refuse."""
        access, gateway = self.access, scope["app"].state.gateway
        if isinstance(access, Needs) and scope["method"] in (self.methods or ()) and access.applies(gateway):
            await _Visit(access, Request(scope), receive, send).run(super().handle)
        else:
            await super().handle(scope, receive, send)


def _declaration(dependency: params.Depends) -> Needs | Public | None:
    declared = dependency.dependency
    return declared if isinstance(declared, Needs | Public) else None


class _Visit:
    """One request to a guarded route, from the caller's key to the line in the audit log."""

    def __init__(self, access: Needs, request: Request, receive: Receive, send: Send) -> None:
        self._access = access
        self._request = request
        self._receive = receive
        self._send = send
        self._gateway: Gateway = request.app.state.gateway
        self._within_limits = False
        self._has_body = False

    async def run(self, answer: Callable[[AsgiScope, Receive, Send], Any]) -> None:
        scope = self._request.scope
        try:
            await self._admit()
        except DomainError as refused:
            await problem_response(self._request, refused)(scope, self._receive, self._send_marked)
            return
        try:
            await answer(scope, self._receive_while_admitted, self._send_marked)
        except Exception:  # noted, whatever it is, and raised on
            await self._note_change(500)
            raise

    async def _admit(self) -> None:
        request, access = self._request, self._gateway.access
        forwarded = getattr(request.state, "forwarded", False)
        caller = await access.callers.find(request.headers.get("authorization"), forwarded=forwarded)
        request.state.caller = caller
        structlog.contextvars.bind_contextvars(tenant=caller.tenant, key_id=caller.key and caller.key.id)
        log_ids(request.path_params)
        access.meter.note_use(caller)
        await take(request, requests=1)
        self._within_limits = True
        caller.require(*self._access.scopes)

    async def _receive_while_admitted(self) -> Message:
        """The next message. Raises `DomainError` where the key was revoked, or has expired, while a body arrived."""
        message = await self._receive()
        self._has_body = self._has_body or bool(message.get("body"))
        complete = self._has_body and message["type"] == "http.request" and not message.get("more_body")
        if complete and not await self._gateway.access.callers.admits(self._request.state.caller):
            raise DomainError(ErrorCode.KEY_INVALID, "the key was revoked, or has expired, while the body arrived")
        return message

    async def _send_marked(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._note_change(message["status"])
            MutableHeaders(scope=message).update(_limit_headers(self._request))
        await self._send(message)

    async def _note_change(self, status: int) -> None:
        state = self._request.state
        # Over its limits a key may not write here either; without a scope it asked all the same.
        if not (self._within_limits and self._access.change) or getattr(state, "changes_nothing", False):
            return
        caller: Caller = state.caller
        target = getattr(state, "changed", None) or "/".join(map(str, self._request.path_params.values())) or None
        outcome: Outcome = "succeeded" if status < 400 else "refused" if status < 500 else "failed"
        audit = self._gateway.records.of(caller.tenant).audit
        noted = (caller.key, self._access.change, target, outcome, status, state.request_id)
        try:
            await asyncio.to_thread(audit.append, *noted)
        except StoreUnavailable as error:
            structlog.get_logger().error(
                "audit_not_written", action=self._access.change, target=target, reason=str(error)
            )


async def take(request: Request, *, requests: int = 0, inputs: int = 0) -> None:
    """Take from what the caller's key may ask for each minute. Raises `DomainError` (``rate_limited``)."""
    caller: Caller = request.state.caller
    most = caller.limits.inputs_per_minute
    if most is not None and inputs > most:
        detail = f"{inputs} inputs given, and this key may send {most} a minute: send fewer at a time"
        raise DomainError(ErrorCode.TOO_MANY_INPUTS, detail, "/inputs")
    gateway: Gateway = request.app.state.gateway
    key_id = caller.key.id if caller.key else ""
    taken = await gateway.access.limiter.take(key_id, caller.limits, requests=requests, inputs=inputs)
    request.state.taken = (*getattr(request.state, "taken", ()), taken)
    if not taken.allowed:
        detail = f"this key has used up its {taken.exhausted} for now"
        raise DomainError(ErrorCode.RATE_LIMITED, detail, retry_after=taken.wait_seconds)


def _limit_headers(request: Request) -> dict[str, str]:
    taken: tuple[LimitDecision, ...] = getattr(request.state, "taken", ())
    buckets = tuple(bucket for one in taken for bucket in one.buckets)
    return LimitDecision(allowed=True, buckets=buckets).headers()


def log_ids(ids: Mapping[str, str]) -> None:
    """Let the lines of a request in the log name a job and a context."""
    known = {"job_id": _JOB_ID, "context_id": _CONTEXT_ID}
    found = {name: ids[name] for name, form in known.items() if name in ids and form.fullmatch(ids[name])}
    structlog.contextvars.bind_contextvars(**found)


def note_changed(request: Request, target: str) -> None:
    """Name what a request made, which its path does not, in the audit log."""
    request.state.changed = target


def note_unchanged(request: Request) -> None:
    """Leave a request out of the audit log, since it only asked."""
    request.state.changes_nothing = True
