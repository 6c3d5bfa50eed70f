"""What the service keeps in files: those of models and artifacts, and who may read the first key."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from contextune.cli.examination import Finding

from app.access.callers import may_be_open
from app.access.first_key import FILE_NAME
from app.config import Settings
from app.contract.model_files import HASHES, file_key
from app.contract.names import artifact_url
from app.records.files import ArtifactsUnavailable, read_file, remove_file, write_file

#: Our packages with weights.
_WEIGHTS: Final = ("contextune-smollm2", "contextune-e5-small")
_LEAST_WEIGHTS_BYTES: Final = 1 << 20


def model_files(settings: Settings) -> Iterator[Finding]:
    """Whether files of models are what their packages state, and still what workers on this machine took them for."""
    stated = {**_packaged(), **_taken(settings.data_dir / "models" / HASHES)}
    damaged = [path for path, digest in stated.items() if _sha256(path) != digest]
    for path in damaged:
        mend = "install the package, or put the model's files in place, again: contexts answer on the very files alone"
        yield Finding("models", "wrong", f"{path} is damaged: its SHA-256 is another", mend)
    if stated and not damaged:
        size = sum(path.stat().st_size for path in stated)
        yield Finding("models", "ok", f"{len(stated)} files of {size / 1e6:,.0f} MB have the SHA-256 they should have")
    elif not stated:
        yield Finding("models", "ok", "no worker has loaded a model on this machine yet")


def _packaged() -> dict[Path, str]:
    """SHA-256 of the files of our packages with weights, as pip noted it."""
    stated = {}
    for name in _WEIGHTS:
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            continue
        for file in files:
            if file.hash is not None and file.hash.mode == "sha256" and file.size and file.size > _LEAST_WEIGHTS_BYTES:
                stated[Path(str(file.locate())).resolve()] = _hex(file.hash.value)
    return stated


def _hex(value: str) -> str:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()


def _taken(hashes: Path) -> dict[Path, str]:
    """SHA-256 that a worker noted of files which, by size and time, have not changed since."""
    try:
        noted = json.loads(hashes.read_text())
        paths = {key: Path(key.rsplit(" ", 2)[0]) for key in noted}
    except (OSError, ValueError, AttributeError):
        return {}
    return {path: str(noted[key]) for key, path in paths.items() if path.exists() and file_key(path) == key}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifacts(settings: Settings) -> Iterator[Finding]:
    """Whether artifacts can be written, read and removed."""
    url = artifact_url(settings.artifacts_url, f"uploads/doctor-{os.getpid()}")
    try:
        write_file(url, b"contextune")
        whole = read_file(url) == b"contextune"
        remove_file(url)
    except (OSError, ArtifactsUnavailable, ImportError, ValueError) as error:
        mend = "see that CONTEXTUNE_ARTIFACTS_URL can be written, and its fsspec package is installed"
        yield Finding("artifacts", "wrong", f"they cannot be written, read and removed: {type(error).__name__}", mend)
        return
    if whole:
        yield Finding("artifacts", "ok", "written, read and removed")
    else:
        yield Finding("artifacts", "wrong", "what was written is not what was read", "check the file system")


def access(settings: Settings) -> Iterator[Finding]:
    """Whether requests need a key, and who can read the first one."""
    if settings.auth == "off":
        found = "CONTEXTUNE_AUTH is off: whoever reaches the service may do everything"
        yield Finding(
            "access", "warning", found, "remove the setting, and make a key with `contextune keys store create`"
        )
    elif may_be_open(settings):
        yield Finding("access", "ok", f"open on {settings.host} unless a key was ever made")
    else:
        yield Finding("access", "ok", "each request needs a key")
    file = settings.data_dir / FILE_NAME
    if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
        yield Finding("access", "wrong", f"{file} can be read by others (mode {mode:o})", f"chmod 600 {file}")
    if settings.tls_cert is None and not may_be_open(settings) and not settings.trusted_proxies:
        mend = "set CONTEXTUNE_TLS_CERT and CONTEXTUNE_TLS_KEY, or CONTEXTUNE_TRUSTED_PROXIES"
        yield Finding("access", "warning", "keys travel over plain HTTP", mend)
