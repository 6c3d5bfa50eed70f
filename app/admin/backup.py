"""A backup: every row of the store and every file that a row refers to, in one tar file, made while the service runs.

Files are kept from being removed meanwhile; the rows of a tenant are of one moment. Checkpoints, uploads and what is
cached are left out.

    contextune-backup.json     format, release and time
    records.jsonl              rows
    artifacts/<address>        files, whose names hold their SHA-256
    complete.json              how many of each there are, and the SHA-256 of the rows: a file without it was cut off
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import IO, Final

import fsspec

from app.contract.names import artifact_url
from app.records.backups import HOLD_SECONDS, Backups, RowsDamaged, address_of
from app.records.connection import StoreUnavailable
from app.records.files import ArtifactsUnavailable, move_file, open_to_write, remove_file, unavailable

FORMAT: Final = 1
HEAD: Final = "contextune-backup.json"
RECORDS: Final = "records.jsonl"
_RECORDS_HASH: Final = "records_sha256"
ARTIFACTS: Final = "artifacts/"
TAIL: Final = "complete.json"
_ADDRESS: Final = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]+)?")
_PIECE_BYTES: Final = 1 << 20

Tell = Callable[[str], None]


class BackupFailed(Exception):
    """A backup could not be made or restored; the text says why."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds. ``damaged`` are addresses of files that were missing or not what their names say."""

    rows: int
    artifacts: int
    bytes: int
    damaged: tuple[str, ...] = ()


def write_backup(backups: Backups, artifacts_url: str, file: Path, tell: Tell) -> Backup:
    """Write a backup to a new file, which appears whole or not at all, readable by its owner alone.

    Raises `BackupFailed`, `BackupUnderWay`, `StoreUnavailable` and OSError.
    """
    if file.exists():
        raise BackupFailed(f"{file} is there already")
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as written:
            with _holding(backups) as check, tarfile.open(fileobj=written, mode="w") as tar:
                found = _fill(tar, backups, artifacts_url, file.parent, check, tell)
            written.flush()
            os.fsync(written.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return found


def _fill(
    tar: tarfile.TarFile, backups: Backups, artifacts_url: str, folder: Path, check: Callable[[], None], tell: Tell
) -> Backup:
    head = {"format": FORMAT, "release": version("contextune-server"), "created_at": datetime.now(UTC).isoformat()}
    _add(tar, HEAD, json.dumps(head).encode())
    tell("reading the records")
    addresses, rows, digest = set[str](), 0, hashlib.sha256()
    with tempfile.TemporaryFile(dir=folder) as lines:  # a tar file states the length first
        for line in backups.rows():
            written = line.encode() + b"\n"
            lines.write(written)
            digest.update(written)
            rows += 1
            if (address := address_of(line)) is not None:
                addresses.add(address)
        _add_file(tar, RECORDS, lines)
    copied, size, damaged = 0, 0, list[str]()
    for number, address in enumerate(sorted(addresses), 1):
        check()
        tell(f"copying file {number:,} of {len(addresses):,}")
        length = _add_artifact(tar, artifacts_url, address, folder)
        if length is None:
            damaged.append(address)
        else:
            copied, size = copied + 1, size + length
    check()
    found = Backup(rows, copied, size, tuple(damaged))
    _add(tar, TAIL, json.dumps({**asdict(found), _RECORDS_HASH: digest.hexdigest()}).encode())
    return found


def _add_artifact(tar: tarfile.TarFile, artifacts_url: str, address: str, folder: Path) -> int | None:
    """Copy a file; its length, or None where it is not there or not what its name says."""
    digest = hashlib.sha256()
    with tempfile.TemporaryFile(dir=folder) as copy:
        try:
            with fsspec.open(artifact_url(artifacts_url, address), "rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    digest.update(piece)
                    copy.write(piece)
        except FileNotFoundError:
            return None
        if digest.hexdigest() != hash_of(address):
            return None
        return _add_file(tar, ARTIFACTS + address, copy)


def hash_of(address: str) -> str:
    """The SHA-256 that an address states."""
    return address.partition(".")[0]


def _add_file(tar: tarfile.TarFile, name: str, file: IO[bytes]) -> int:
    member = tarfile.TarInfo(name)
    member.size = file.tell()
    file.seek(0)
    tar.addfile(member, file)
    return member.size


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, BytesIO(content))


@contextmanager
def _holding(backups: Backups) -> Iterator[Callable[[], None]]:
    """Keeps files from being removed; yields what raises `BackupFailed` once that may not hold any more."""
    holder, ended, lost = secrets.token_hex(8), Event(), Event()
    backups.hold(holder)

    def renew() -> None:
        while not ended.wait(HOLD_SECONDS / 3):
            try:
                kept = backups.renew(holder)
            except StoreUnavailable:  # tried again while the lease may still hold
                continue
            if not kept:
                lost.set()
                return

    def check() -> None:
        if lost.is_set():
            raise BackupFailed("the hold on the files was lost; try again")

    thread = Thread(target=renew, name="backup", daemon=True)
    thread.start()
    try:
        yield check
        if not backups.renew(holder):
            raise BackupFailed("the hold on the files was lost; try again")
    finally:
        ended.set()
        thread.join()
        with suppress(StoreUnavailable):  # it runs out by itself
            backups.let_go(holder)


def read_backup(backups: Backups, artifacts_url: str, file: Path, tell: Tell) -> Backup:
    """Restore a backup into an empty store and the artifacts; may be repeated until it has ended.

    Raises `BackupFailed`, `StoreNotEmpty`, `StoreUnavailable`, `ArtifactsUnavailable` and OSError.
    """
    try:
        with tarfile.open(file, "r:") as tar:
            members = {member.name: member for member in tar}
            addresses = [name.removeprefix(ARTIFACTS) for name in members if name.startswith(ARTIFACTS)]
            stated = _stated(tar, members, len(addresses))
            backups.begin_restore()
            for number, address in enumerate(addresses, 1):
                tell(f"writing file {number:,} of {len(addresses):,}")
                _restore_artifact(_content(tar, members, ARTIFACTS + address), artifacts_url, address)
            tell("writing the records")
            backups.restore(line.decode().rstrip("\n") for line in _content(tar, members, RECORDS))
    except (tarfile.TarError, RowsDamaged) as error:
        raise BackupFailed(f"{file} is no backup, or damaged: {error}") from error
    backups.end_restore()
    return stated


def _stated(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], artifacts: int) -> Backup:
    """What a backup says that it holds, once its records are known to be that, and its files to be as many.

    Raises `BackupFailed` for a file that is none, is cut off, damaged or too new.
    """
    try:
        head = json.load(_content(tar, members, HEAD))
        if head["format"] > FORMAT:
            raise BackupFailed(
                f"the backup was made by release {head['release']}, which is newer: restore it with that"
            )
        tail = json.load(_content(tar, members, TAIL))
        stated = Backup(tail["rows"], tail["artifacts"], tail["bytes"], tuple(tail["damaged"]))
        rows, found = _counted(_content(tar, members, RECORDS))
        if (rows, artifacts) != (stated.rows, stated.artifacts):
            raise BackupFailed("the backup is damaged: it does not hold what it states")
        if tail.get(_RECORDS_HASH, found) != found:  # older backups state none
            raise BackupFailed("the backup is damaged: its records are not what it states")
        return stated
    except (ValueError, KeyError, TypeError) as error:
        raise BackupFailed(f"this is no backup, or it was cut off: {error}") from error


def _counted(records: IO[bytes]) -> tuple[int, str]:
    """How many records there are, and the SHA-256 of all."""
    rows, digest = 0, hashlib.sha256()
    for line in records:
        digest.update(line)
        rows += 1
    return rows, digest.hexdigest()


def _content(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    content = tar.extractfile(members[name])
    if content is None:
        raise KeyError(name)
    return content


def _restore_artifact(content: IO[bytes], artifacts_url: str, address: str) -> None:
    """Write a file at its address once it is known to be what that says."""
    upload = artifact_url(artifacts_url, f"uploads/restore-{secrets.token_hex(8)}")
    target, digest, file = artifact_url(artifacts_url, address), hashlib.sha256(), open_to_write(upload)
    try:
        with file:
            while piece := content.read(_PIECE_BYTES):
                digest.update(piece)
                file.write(piece)
        if not _ADDRESS.fullmatch(address) or digest.hexdigest() != hash_of(address):
            raise BackupFailed(f"the backup is damaged: {address} is not what its name says")
        with unavailable():
            move_file(upload, target)
    except BaseException:
        with suppress(ArtifactsUnavailable):
            remove_file(upload)
        raise
