"""What a model is: the SHA-256 of its files. A context tuned for one model must not answer on another.

Knows files, not what is in them.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from app.contract.model_files import HASHES, file_key, sha256

#: The list of a model's weights where they are several files.
_INDEX: Final = "model.safetensors.index.json"
_WEIGHTS: Final = "model.safetensors"
#: What decides how a text becomes tokens and tokens become numbers: ``tokenizer.json`` alone where it is there, else
#: what it would be made from.
_ALWAYS: Final = ("config.json", "tokenizer_config.json")
_TOKENIZER: Final = "tokenizer.json"
_OLDER_TOKENIZERS: Final = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)


def model_files(folder: Path) -> list[Path]:
    """The files that make a model in ``folder`` what it is. Raises OSError if there are no weights in safetensors."""
    index = folder / _INDEX
    if index.exists():
        shards = set(json.loads(index.read_text())["weight_map"].values())
        weights = [index, *(folder / shard for shard in shards)]
    else:
        weights = [folder / _WEIGHTS]
    tokenizer = [_TOKENIZER] if (folder / _TOKENIZER).exists() else _OLDER_TOKENIZERS
    others = [folder / name for name in (*_ALWAYS, *tokenizer)]
    return [*weights, *(path for path in others if path.exists())]


def fingerprint(files: Iterable[Path], cache: Path, stage: Callable[[], None]) -> str:
    """SHA-256 of names and contents of ``files``, whatever their folder and order.

    Hashes of contents are kept in the folder ``cache`` as long as size and time of a file stay the same; ``stage`` is
    called before others are computed. Raises OSError if a file is not there.
    """
    known = _read(cache / HASHES)
    keys = {path.name: (path, file_key(path)) for path in files}
    fresh = {key: path for path, key in keys.values() if key not in known}
    if fresh:
        stage()
        known |= {key: sha256(path) for key, path in fresh.items()}
        _write(cache / HASHES, known)
    content = "".join(f"{name} {known[key]}\n" for name, (_, key) in sorted(keys.items()))
    return hashlib.sha256(content.encode()).hexdigest()


def _read(path: Path) -> dict[str, str]:
    """What is kept; nothing where it cannot be read: it only saves time."""
    with suppress(OSError, ValueError):
        kept = json.loads(path.read_text())
        if isinstance(kept, dict):
            return kept
    return {}


def _write(path: Path, known: dict[str, str]) -> None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        partial.write_text(json.dumps(known))
        partial.replace(path)
