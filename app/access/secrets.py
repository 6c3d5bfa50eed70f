"""The secrets of keys. What is stored, logged and compared is a secret's hash, never the secret."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

PREFIX: Final = "ctk_"
_BYTES: Final = 32


def new_secret() -> str:
    """A fresh secret: 256 random bits, as base64url."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def hash_of(secret: str) -> str:
    """The SHA-256 of a secret, by which its key is found. A random secret needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
