"""A file that is written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Where to write what is to stand at ``path``, which stays as it is unless the block ends well.

    A link stays, and what it points at is replaced. A file keeps its mode. What is no file, such as a pipe, is itself
    where to write. Raises ``OSError`` that names ``path``.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".contextune-{secrets.token_hex(8)}")
    try:
        partial.touch(exist_ok=False)
        if target.exists():
            shutil.copymode(target, partial)
        yield partial
        partial.replace(target)
    except OSError as error:
        if str(error.filename) == str(partial):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        with suppress(OSError):
            partial.unlink()
