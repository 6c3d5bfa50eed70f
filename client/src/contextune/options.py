"""Where the service is, as whom to speak with it, and how patiently."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx2
from pydantic import SecretStr

from contextune.errors import ContextuneError
from contextune.protocol.call import Request
from contextune.protocol.retry import RetryPolicy
from contextune.version import VERSION

DEFAULT_URL: Final = "http://127.0.0.1:8000"
#: How long to wait for a connection, and for each part of what is sent and answered (seconds).
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 60.0
WRITE_SECONDS: Final = 60.0
_POOL_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Options:
    """What a client was made with; the key is never shown."""

    url: str
    key: SecretStr | None
    read_seconds: float = READ_SECONDS
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    @classmethod
    def of(cls, url: str | None, key: str | None, read_seconds: float | None, policy: RetryPolicy | None) -> Options:
        """What was given, else what the environment says, else a service on this machine."""
        address = (url or os.environ.get("CONTEXTUNE_URL") or DEFAULT_URL).rstrip("/")
        _check(address)
        secret = key or os.environ.get("CONTEXTUNE_API_KEY")
        return cls(
            address, SecretStr(secret) if secret else None, read_seconds or READ_SECONDS, policy or RetryPolicy()
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every request."""
        key = {"authorization": f"Bearer {self.key.get_secret_value()}"} if self.key else {}
        return {"user-agent": f"contextune-python/{VERSION}", "accept": "application/json", **key}

    def timeout(self, request: Request) -> httpx2.Timeout:
        """How long each part of a request may take."""
        read = request.read_seconds or self.read_seconds
        return httpx2.Timeout(connect=CONNECT_SECONDS, read=read, write=WRITE_SECONDS, pool=_POOL_SECONDS)


def _check(address: str) -> None:
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise ContextuneError(f"{address!r} is no address of a service; {DEFAULT_URL} is such")
