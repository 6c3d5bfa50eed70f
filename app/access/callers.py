"""Who makes a request: a key, or everybody while the service is open. It knows no route."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from app.access.secrets import hash_of
from app.config import Settings
from app.contract.access import ALL_SCOPES, Key, KeyLimits, Scope, effective
from app.contract.names import DEFAULT_TENANT, ErrorCode
from app.errors import DomainError
from app.records.access import AccessRecords, FoundKey, Lookup
from app.records.connection import StoreUnavailable

#: How long what the store said of a key is believed: a revoked key stops within that time, on every gateway.
BELIEVED_SECONDS: Final = 1.0

#: Keys that are looked up at once, by threads of their own: a flood of wrong ones takes nobody else's, and nothing else
#: that waits for the store keeps requests out.
_LOOKUPS: Final = 8
_MOST_REMEMBERED: Final = 10_000


@dataclass(frozen=True)
class Caller:
    """Whose records a request sees and what it may do; ``key`` is None where none was needed."""

    tenant: str
    scopes: frozenset[Scope]
    key: Key | None
    key_hash: str = ""

    def may(self, *scopes: Scope) -> bool:
        """Whether the caller has one of ``scopes``."""
        return not self.scopes.isdisjoint(scopes)

    def require(self, *scopes: Scope) -> None:
        """Raise `DomainError` (``insufficient_scope``) unless the caller has one of ``scopes``."""
        if not self.may(*scopes):
            raise DomainError(ErrorCode.INSUFFICIENT_SCOPE, f"this needs a key with the scope {' or '.join(scopes)}")

    @property
    def limits(self) -> KeyLimits:
        """What the caller may ask for each minute."""
        return self.key.limits if self.key else KeyLimits()


#: Who needs no key.
EVERYBODY: Final = Caller(DEFAULT_TENANT, effective(ALL_SCOPES), None)


def may_be_open(settings: Settings) -> bool:
    """Whether requests may need no key until the first key is made: only this machine reaches the service."""
    return settings.admin_key is None and not settings.trusted_proxies and _loopback(settings.host)


def _loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class Callers:
    """Finds out who calls, from ``records``. What the store said is believed for `BELIEVED_SECONDS`.

    A key that is not looked up within ``lookup_seconds`` keeps its request out.
    """

    def __init__(self, records: AccessRecords, settings: Settings, lookup_seconds: float = 5.0) -> None:
        self._records = records
        self._lookup_seconds = lookup_seconds
        self._off = settings.auth == "off"
        self._may_be_open = may_be_open(settings)
        self._remembered: dict[str, tuple[float, FoundKey]] = {}
        self._forgotten = 0  # times
        self._pending: dict[str, asyncio.Task[Lookup]] = {}
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="keys")
        self._none_made_until = -math.inf

    async def find(self, authorization: str | None, *, forwarded: bool) -> Caller:
        """The caller of a request with this ``Authorization``; ``forwarded`` is whether a proxy passed the request on.

        Raises `DomainError` (``key_required``, ``key_invalid``) and `StoreUnavailable`.
        """
        if self._off or (self._may_be_open and not forwarded and await self._no_key_made()):
            return EVERYBODY
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise DomainError(ErrorCode.KEY_REQUIRED, "send a key as `Authorization: Bearer ctk_…`")
        found = await self._key(hash_of(secret.strip()))
        if found is None:
            raise DomainError(ErrorCode.KEY_INVALID, "there is no such key, or it was revoked or has expired")
        return Caller(found.key.tenant, effective(found.key.scopes), found.key, found.hash)

    async def admits(self, caller: Caller) -> bool:
        """Whether a caller that was found would be found again: its key may have been revoked, or have expired.

        True while the store does not answer.
        """
        try:
            if caller.key is not None:
                return await self._key(caller.key_hash) is not None
            return self._off or (self._may_be_open and await self._no_key_made())
        except StoreUnavailable:
            return True

    def forget(self, *hashes: str) -> None:
        """Believe nothing more of these keys, nor what the store is being asked of them."""
        self._forgotten += 1
        for secret_hash in hashes:
            self._remembered.pop(secret_hash, None)
            self._pending.pop(secret_hash, None)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def close_doors(self) -> None:
        """Note that a key was made: from now on each request needs one."""
        self._may_be_open = False

    async def _no_key_made(self) -> bool:
        if time.monotonic() < self._none_made_until:
            return True
        now = time.monotonic()
        if (await self._lookup("")).any_made:
            self.close_doors()  # for good
            return False
        self._none_made_until = now + BELIEVED_SECONDS
        return True

    async def _key(self, secret_hash: str) -> FoundKey | None:
        now, forgotten = time.monotonic(), self._forgotten
        until, found = self._remembered.get(secret_hash, (-math.inf, None))
        if now < until:
            return found
        found = (await self._lookup(secret_hash)).found
        self._remembered.pop(secret_hash, None)
        if found is not None and forgotten == self._forgotten:  # else it may have been revoked since
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            left = math.inf if found.seconds_left is None else found.seconds_left
            self._remembered[secret_hash] = (now + min(BELIEVED_SECONDS, left), found)
        return found

    async def _lookup(self, secret_hash: str) -> Lookup:
        """Ask the store, once for all requests that want to know the same."""
        task = self._pending.get(secret_hash)
        if task is None:
            task = asyncio.create_task(self._ask(secret_hash))
            self._pending[secret_hash] = task
            task.add_done_callback(lambda done: self._asked(secret_hash, done))
        # Unlike a timeout around it, this takes an answer that came while a crowd of requests held up the event loop.
        done, _ = await asyncio.wait({task}, timeout=self._lookup_seconds)
        if not done:
            raise StoreUnavailable("a key was not looked up in time")
        return task.result()

    async def _ask(self, secret_hash: str) -> Lookup:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._records.find, secret_hash)

    def _asked(self, secret_hash: str, task: asyncio.Task[Lookup]) -> None:
        if self._pending.get(secret_hash) is task:
            del self._pending[secret_hash]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be left to
