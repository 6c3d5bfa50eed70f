"""A tuned context as one safetensors blob. Knows bytes, not where they are kept."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from worker.cpt.encoding.context import Tokens
from worker.cpt.scoring.classifier import Classifier

# safetensors writes several metadata entries in no fixed order, so ours is a single JSON entry.
_METADATA = "contextune"
# What turns scores into probabilities, if there is more to it than a softmax.
_CLASSIFIER = "classifier/"
_FORMAT = {"embedding": ("F32", 2), "delta": ("F32", 2), "ids": ("I64", 1), "types": ("I64", 1)}


@dataclass(frozen=True)
class TunedContext:
    """Tokens, their word embeddings and projected deltas [T, H] float32, and what else belongs to them as JSON.

    `classifier` is None where the label scores are all there is. `metadata` has the tokens of each label, `label_ids`.
    """

    tokens: Tokens
    embedding: Tensor
    delta: Tensor
    metadata: Mapping[str, Any]
    classifier: Classifier | None = None

    @property
    def embeds(self) -> Tensor:
        """[T, H] the context's tuned embeddings."""
        return self.embedding + self.delta


def save(tuned: TunedContext) -> bytes:
    """The same tuned context always gives the same bytes.

    Raises:
        ValueError: tensors that do not fit the tokens.
    """
    expected = (len(tuned.tokens), tuned.embedding.shape[-1])
    if not tuned.embedding.shape == tuned.delta.shape == expected:
        raise ValueError(f"Embedding and delta must both have the shape {expected}.")
    tensors = {
        "embedding": tuned.embedding.detach().float().cpu().contiguous(),
        "delta": tuned.delta.detach().float().cpu().contiguous(),
        "ids": torch.tensor(tuned.tokens.ids, dtype=torch.int64),
        "types": torch.tensor(tuned.tokens.reference_types(), dtype=torch.int64),
    }
    if tuned.classifier is not None:
        tensors |= {f"{_CLASSIFIER}{name}": tensor for name, tensor in tuned.classifier.tensors().items()}
    metadata = json.dumps(tuned.metadata, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return safetensors.torch.save(tensors, {_METADATA: metadata})


def load(
    blob: bytes, *, width: int | None = None, hidden: int | None = None, vocabulary: int | None = None
) -> TunedContext:
    """Read what `save` wrote; the sizes to check against are those of the base model.

    `width` is that of its word embeddings, `hidden` that of its hidden states, which heads read.

    Raises:
        ValueError: anything but a whole, consistent blob; the message says what is wrong.
    """
    header = _header(blob)
    tokens, size = _check_shapes(header)
    if width is not None and size != width:
        raise ValueError(f"The adapter has embeddings of size {size}, the model of size {width}.")
    try:
        tensors = safetensors.torch.load(blob)
        metadata = json.loads(header["__metadata__"][_METADATA])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("The adapter is damaged.") from error
    if not isinstance(metadata, dict):
        raise ValueError("The adapter's metadata is not an object.")
    if not (tensors["embedding"].isfinite().all() and tensors["delta"].isfinite().all()):
        raise ValueError("The adapter holds numbers that are not finite.")
    ids, types = tensors["ids"].tolist(), tensors["types"].tolist()
    if min(ids) < 0 or (vocabulary is not None and max(ids) >= vocabulary):
        raise ValueError("The adapter has token ids outside the vocabulary.")
    if min(types) < 0 or max(types) > 4 * tokens:
        raise ValueError("The adapter has unknown token types.")
    classifier = _classifier(tensors, metadata, size if hidden is None else hidden)
    return TunedContext(Tokens.from_reference(ids, types), tensors["embedding"], tensors["delta"], metadata, classifier)


def _classifier(tensors: dict[str, Tensor], metadata: dict[str, Any], size: int) -> Classifier | None:
    stored = {
        name.removeprefix(_CLASSIFIER): tensor for name, tensor in tensors.items() if name.startswith(_CLASSIFIER)
    }
    if not stored:
        return None
    labels = metadata.get("label_ids")
    return Classifier.from_tensors(stored, len(labels) if isinstance(labels, list) else 0, size)


def _header(blob: bytes) -> dict[str, Any]:
    if len(blob) < 8:
        raise ValueError("The adapter is not a safetensors file.")
    (size,) = struct.unpack("<Q", blob[:8])
    if size > len(blob) - 8:
        raise ValueError("The adapter is not a safetensors file.")
    try:
        header = json.loads(blob[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise ValueError("The adapter is not a safetensors file.") from error
    names = {name for name in header if not name.startswith(_CLASSIFIER)} if isinstance(header, dict) else set()
    if names != {*_FORMAT, "__metadata__"}:
        raise ValueError("The adapter does not hold embedding, delta, ids and types.")
    return header


def _check_shapes(header: dict[str, Any]) -> tuple[int, int]:
    """(T, H), if dtypes and shapes are as they must be."""
    shapes = {}
    for name, (dtype, dimensions) in _FORMAT.items():
        entry = header[name] if isinstance(header[name], dict) else {}
        shape = entry.get("shape")
        if entry.get("dtype") != dtype or not isinstance(shape, list) or len(shape) != dimensions:
            raise ValueError(f"The adapter's {name} must have {dimensions} dimensions of type {dtype}.")
        shapes[name] = shape
    if any(not isinstance(entry, dict) or entry.get("dtype") != "F32" for entry in _of_classifier(header)):
        raise ValueError("The adapter's classifier must be of type F32.")
    tokens, size = shapes["embedding"]
    if shapes["delta"] != [tokens, size] or shapes["ids"] != [tokens] or shapes["types"] != [tokens] or not tokens:
        raise ValueError("The adapter's tensors have different lengths.")
    return tokens, size


def _of_classifier(header: dict[str, Any]) -> list[Any]:
    return [entry for name, entry in header.items() if name.startswith(_CLASSIFIER)]
