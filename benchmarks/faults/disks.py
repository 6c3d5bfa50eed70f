"""Disks of this process's own, small and in memory: a mount namespace of an unprivileged user."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final

_NAMESPACE: Final = ("unshare", "--user", "--map-root-user", "--mount", "--")
_INSIDE: Final = "CONTEXTUNE_BENCH_DISKS"
_PIECE: Final = bytes(256 * 1024)
_REFILL_SECONDS: Final = 0.05


def enter() -> None:
    """Run this command again where it may mount disks that nobody else sees, unless it runs there already."""
    if _INSIDE not in os.environ:
        command = [*_NAMESPACE, *sys.orig_argv]
        os.execvpe(command[0], command, os.environ | {_INSIDE: "1"})


@contextmanager
def mounted(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A disk of this size, empty, on the folder, until the block ends."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(disks: Sequence[Path]) -> Iterator[None]:
    """Leave no byte on the disks, also of what is freed meanwhile, until the block ends."""
    over = Event()
    threads = [Thread(target=_fill, args=(disk / "ballast", over)) for disk in disks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for disk in disks:
            (disk / "ballast").unlink()
        if any(shutil.disk_usage(disk).free == 0 for disk in disks):
            raise RuntimeError("the disk is too small for what the service has stored: nothing could be measured")


def _fill(path: Path, over: Event) -> None:
    with path.open("ab", buffering=0) as file:
        while not over.is_set():
            try:
                file.write(_PIECE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                time.sleep(_REFILL_SECONDS)
