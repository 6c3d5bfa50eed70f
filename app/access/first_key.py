"""The key that a service has before anybody made one: from the configuration, or made at the first start."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import structlog

from app.access.callers import may_be_open
from app.access.secrets import hash_of, new_secret
from app.config import Settings
from app.contract.access import ALL_SCOPES, KeyLimits
from app.contract.names import DEFAULT_TENANT
from app.records.access import Occasion
from app.records.connection import new_id
from app.records.store import Records

#: In the data folder.
FILE_NAME: Final = "admin-key"


def ensure_first_key(settings: Settings, records: Records) -> None:
    """Store the configured key; or, where the service needs a key and none can make others, make one and show it.

    A key without the scope admin, such as that of a monitoring system, may have been made in the store before. However
    many gateways start at once, one key is made. Raises `StoreUnavailable`, `TenantDeleting`, and OSError where
    the key cannot be written to the data folder; then none is made.
    """
    if settings.admin_key is not None:
        _create(records, settings.admin_key.get_secret_value(), "CONTEXTUNE_ADMIN_KEY", "configured")
    elif settings.auth == "on" and not may_be_open(settings):
        _make(settings, records)


def _create(records: Records, secret: str, name: str, occasion: Occasion) -> bool:
    """Make a key with all scopes; False if there was nothing to make."""
    key_id = new_id("key")
    given = (key_id, hash_of(secret), DEFAULT_TENANT, name, ALL_SCOPES, KeyLimits(), None)
    created = records.access.create_key(*given, occasion=occasion)
    if created is None:
        return False
    records.of(DEFAULT_TENANT).audit.append(None, "key.create", created.id)
    return True


def _make(settings: Settings, records: Records) -> None:
    """A file has the secret before the store has its hash: a key that nobody knows would shut everybody out."""
    path = settings.data_dir / FILE_NAME
    pending = path.with_name(f"{FILE_NAME}.{os.getpid()}")
    secret = _read(pending)  # it is there where an answer of the store was lost
    if secret is None:
        if records.access.find("").any_admin_made:
            return
        secret = new_secret()
        _write(pending, secret)
    if not _create(records, secret, "first start", "first"):
        pending.unlink()
        return
    pending.replace(path)
    structlog.get_logger().info("first_key_made", file=str(path))
    if settings.show_first_key:
        sys.stdout.write(f"Contextune made its first key, with every scope; {path} has it, and it is shown once:\n")
        sys.stdout.write(f"{secret}\n")
        sys.stdout.flush()


def _read(path: Path) -> str | None:
    """The secret of a file that was written whole, up to the end of its line."""
    text = path.read_text() if path.exists() else ""
    return text.removesuffix("\n") if text.endswith("\n") else None


def _write(path: Path, secret: str) -> None:
    """Write a secret to a file that is on disk then: the store, which is to have its hash, survives a power cut."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # what a crash or a full disk cut off
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
