"""What the service keeps in files: those of models and artifacts, and who may read the first key."""

from __future__ import annotations

import base64
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
from app.contract.model_files import HASHES, SUMS, file_key, sha256
from app.contract.names import artifact_url
from app.records.files import ArtifactsUnavailable, read_file, remove_file, write_file

#: Our packages with weights.
_WEIGHTS: Final = ("contextune-smollm2", "contextune-e5-small", "contextune-minilm")
_LEAST_WEIGHTS_BYTES: Final = 1 << 20
_AGAIN: Final = "install the package, or put the model's files in place, again: contexts answer on the very files alone"


def model_files(settings: Settings) -> Iterator[Finding]:
    """Whether files of models are there, and what their packages and the workers on this machine took them for."""
    models = settings.data_dir / "models"
    stated = {**_packaged(), **_taken(models / HASHES)}
    unpacked = _unpacked(models)
    faults = [(path, fault) for path, digest in {**stated, **unpacked}.items() if (fault := _fault(path, digest))]
    for path, fault in faults:
        folder = models / path.relative_to(models).parts[0] if path in unpacked else None
        again = f"remove {folder} and start anew: it is unpacked again" if folder else _AGAIN
        yield Finding("models", "wrong", f"{path} {fault}", again)
    if stated and not faults:
        size = sum(path.stat().st_size for path in {**stated, **unpacked})
        found = f"{len(stated) + len(unpacked)} files of {size / 1e6:,.0f} MB have the SHA-256 they should have"
        yield Finding("models", "ok", found)
    elif not stated:
        yield Finding("models", "ok", "no worker has loaded a model on this machine yet")


def _fault(path: Path, digest: str) -> str | None:
    try:
        return None if sha256(path) == digest else "is damaged: its SHA-256 is another"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


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


def _unpacked(models: Path) -> dict[Path, str]:
    """SHA-256 of the files of unpacked models, as the worker that unpacked them noted it."""
    stated: dict[Path, str] = {}
    for sums in models.glob(f"[!.]*/{SUMS}") if os.access(models, os.R_OK) else ():
        lines = (line.partition("  ") for line in sums.read_text().splitlines())
        stated |= {sums.parent / name: digest for digest, _, name in lines}
    return stated


def artifacts(settings: Settings) -> Iterator[Finding]:
    """Whether artifacts can be written, read and removed."""
    url = artifact_url(settings.artifacts_url, f"uploads/doctor-{os.getpid()}")
    try:
        write_file(url, b"contextune")
        whole = read_file(url) == b"contextune"
        remove_file(url)
    except (OSError, ArtifactsUnavailable, ImportError, ValueError) as error:
        # Other words of an error may hold a secret of the address.
        reason = getattr(error, "strerror", None) or type(error).__name__
        mend = "make room, or see that CONTEXTUNE_ARTIFACTS_URL can be written and its fsspec package is installed"
        yield Finding("artifacts", "wrong", f"they cannot be written, read and removed: {reason}", mend)
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
    if os.path.exists(file) and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:  # noqa: PTH110 - raises nothing
        yield Finding("access", "wrong", f"{file} can be read by others (mode {mode:o})", f"chmod 600 {file}")
    if settings.tls_cert is None and not may_be_open(settings) and not settings.trusted_proxies:
        mend = "set CONTEXTUNE_TLS_CERT and CONTEXTUNE_TLS_KEY, or CONTEXTUNE_TRUSTED_PROXIES"
        yield Finding("access", "warning", "keys travel over plain HTTP", mend)
