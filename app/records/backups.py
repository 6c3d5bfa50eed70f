"""Reading every row for a backup, and writing rows into an empty store. Knows no files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

import redis

from app.contract.names import DEFAULT_TENANT
from app.records.connection import Store, connect
from app.records.requirements import take_up, take_up_for_restore

#: How long files are kept from being removed unless the one who makes the backup says that it still does.
HOLD_SECONDS: Final = 60.0
_AT_ONCE: Final = 200
#: How long the rows of a tenant may take to read.
_ANSWER_SECONDS: Final = 120.0
#: What is read beside the rows of tenants: keys, tenants and totals at one moment, then what refers to files. The rest,
#: such as queues and leases, follows from the jobs.
_SHARED: Final = ("access", "hashes", "keys", "line_needs", "tenants", "tenants:deleting", "tenants:removed", "totals")
_SHARED_KINDS: Final = ("key:", "tenant:")
_REFERENCES: Final = "refs:"


class BackupUnderWay(Exception):
    """Another backup is being made."""


class StoreNotEmpty(Exception):
    """A backup is restored into an empty store alone."""


class RowsDamaged(Exception):
    """What was to be restored are no rows; the text says why. The restore did not end."""


class Backups:
    """Rows as lines of JSON, ``[key, type, milliseconds to live or -1, content]``. Raises `StoreUnavailable`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def at(cls, url: str, *, to_restore: bool = False) -> Backups:
        """The same for the store at a URL, which may be one whose restore did not end if it is ``to_restore``."""
        return cls(Store(connect(url, _ANSWER_SECONDS), take_up_for_restore if to_restore else take_up))

    # -- reading -----------------------------------------------------------------------------------------------------

    def hold(self, holder: str) -> None:
        """Keep every file for `HOLD_SECONDS`. Raises `BackupUnderWay`."""
        if not self._store.run("hold_files", holder, int(HOLD_SECONDS * 1000), 0):
            raise BackupUnderWay

    def renew(self, holder: str) -> bool:
        """Keep them for as long again; False where files may have been removed since."""
        return bool(self._store.run("hold_files", holder, int(HOLD_SECONDS * 1000), 1))

    def let_go(self, holder: str) -> None:
        """Let files be removed again."""
        self._store.run("hold_files", holder, 0, 1)

    def rows(self) -> Iterator[str]:
        """The rows of each tenant, which are of one moment, then what they share, which is of later ones.

        `restore` leaves out what fits to one of them alone.
        """
        keys = set(self._store.every_key())
        tenants = {key.split(":")[1] for key in keys if key.startswith("t:")} | {DEFAULT_TENANT}
        for tenant in sorted(tenants):
            yield from self._store.run("read_rows", tenant)
        shared = set(self._store.every_key())
        access = sorted(key for key in shared if key in _SHARED or key.startswith(_SHARED_KINDS))
        yield from self._store.run("read_rows", "", *access)
        for some in _batched(sorted(key for key in shared if key.startswith(_REFERENCES))):
            yield from self._store.run("read_rows", "", *some)

    # -- writing -----------------------------------------------------------------------------------------------------

    def begin_restore(self) -> None:
        """Take an empty store, or one whose restore did not end, which is emptied. Raises `StoreNotEmpty`."""
        outcome = self._store.run("begin_restore")
        if outcome == "full":
            raise StoreNotEmpty
        if outcome == "again":
            written = (key for key in self._store.every_key() if key not in ("format", "restoring"))
            for some in _batched(written):
                self._store.remove(some)

    def restore(self, lines: Iterable[str]) -> int:
        """Write rows, those of tenants before what they share, and queue the jobs that had not ended; how many rows.

        Raises `RowsDamaged`.
        """
        written, tenants = 0, set[str]()
        with _damage_told():
            for some in _batched(lines):
                tenants |= {key.split(":")[1] for key in map(_key_of, some) if key.startswith("t:")}
                written += int(self._store.run("restore_rows", *some))
        self._store.run("reconcile")
        for tenant in sorted(tenants):
            done = 0
            while found := int(self._store.run("restore_jobs", tenant, done, _AT_ONCE)):
                done += found
        return written

    def end_restore(self) -> None:
        """Let programs use the store."""
        self._store.run("end_restore")


def address_of(line: str) -> str | None:
    """The address of the file that a line's key is about, if it is about one."""
    key = _key_of(line)
    return key.removeprefix(_REFERENCES) if key.startswith(_REFERENCES) else None


def _key_of(line: str) -> str:
    """The key of a row. Raises ValueError."""
    match json.loads(line):
        case [str(key), str(), int(), _]:
            return key
    raise ValueError("a line is no row")


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except (ValueError, redis.ResponseError) as error:  # the latter is what the store says of a row that it cannot keep
        raise RowsDamaged(str(error)) from error


def _batched(items: Iterable[str]) -> Iterator[Sequence[str]]:
    rest = iter(items)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
