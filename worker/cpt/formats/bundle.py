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
#: The newest format of a blob that this program reads, and the one that it writes.
FORMAT = 1
# What turns scores into probabilities, if there is more to it than a softmax.
_CLASSIFIER = "classifier/"
_FORMAT = {"embedding": ("F32", 2), "delta": ("F32", 2), "ids": ("I64", 1), "types": ("I64", 1)}


class NewerFormat(ValueError):
    """A blob was written by a newer release, in a format that this one does not know."""

    def __init__(self, written: int) -> None:
        super().__init__(f"The adapter has format {written}, of a newer release; this one reads up to {FORMAT}.")


@dataclass(frozen=True)
class Prompt:
    """Tokens, and their word embeddings and projected deltas [T, H] float32."""

    tokens: Tokens
    embedding: Tensor
    delta: Tensor

    @property
    def embeds(self) -> Tensor:
        """[T, H] the tuned embeddings."""
        return self.embedding + self.delta


@dataclass(frozen=True)
class TunedContext:
    """The prompts of a context, at least one, and what else belongs to them as JSON.

    `classifier` is None where the label scores under a single prompt are all there is. `metadata` has the tokens of
    each label, `label_ids`.
    """

    prompts: tuple[Prompt, ...]
    metadata: Mapping[str, Any]
    classifier: Classifier | None = None


def save(tuned: TunedContext) -> bytes:
    """The same tuned context always gives the same bytes.

    Raises:
        ValueError: tensors that do not fit the tokens.
    """
    tensors = {
        f"prompts.{number}.{name}": tensor
        for number, prompt in enumerate(tuned.prompts)
        for name, tensor in _tensors(prompt).items()
    }
    if tuned.classifier is not None:
        tensors |= {f"{_CLASSIFIER}{name}": tensor for name, tensor in tuned.classifier.tensors().items()}
    metadata = json.dumps({"format": FORMAT, **tuned.metadata}, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return safetensors.torch.save(tensors, {_METADATA: metadata})


def _tensors(prompt: Prompt) -> dict[str, Tensor]:
    expected = (len(prompt.tokens), prompt.embedding.shape[-1])
    if not prompt.embedding.shape == prompt.delta.shape == expected:
        raise ValueError(f"Embedding and delta must both have the shape {expected}.")
    return {
        "embedding": _copy(prompt.embedding),
        "delta": _copy(prompt.delta),
        "ids": torch.tensor(prompt.tokens.ids, dtype=torch.int64),
        "types": torch.tensor(prompt.tokens.reference_types(), dtype=torch.int64),
    }


def _copy(tensor: Tensor) -> Tensor:
    """A tensor of its own: safetensors stores none that share memory."""
    return tensor.detach().float().cpu().clone(memory_format=torch.contiguous_format)


def load(
    blob: bytes, *, width: int | None = None, hidden: int | None = None, vocabulary: int | None = None
) -> TunedContext:
    """Read what `save` wrote; the sizes to check against are those of the base model.

    `width` is that of its word embeddings, `hidden` that of its hidden states, which heads read.

    Raises:
        NewerFormat: a newer release wrote it.
        ValueError: anything but a whole, consistent blob; the message says what is wrong.
    """
    header = _header(blob)
    if not (count := _count(header)):
        raise ValueError("The adapter does not hold embedding, delta, ids and types.")
    sizes = {_check_shapes(header, f"prompts.{number}.") for number in range(count)}
    (size,) = sizes if len(sizes) == 1 else (0,)
    if not size or (width is not None and size != width):
        raise ValueError(f"The adapter has embeddings of size {size}, the model of size {width}.")
    try:
        tensors = safetensors.torch.load(blob)
        metadata = json.loads(header["__metadata__"][_METADATA])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("The adapter is damaged.") from error
    if not isinstance(metadata, dict):
        raise ValueError("The adapter's metadata is not an object.")
    prompts = tuple(_prompt(tensors, f"prompts.{number}.", vocabulary) for number in range(count))
    metadata.pop("format", None)
    return TunedContext(prompts, metadata, _classifier(tensors, metadata, count, size if hidden is None else hidden))


def _prompt(tensors: dict[str, Tensor], name: str, vocabulary: int | None) -> Prompt:
    embedding, delta = tensors[f"{name}embedding"], tensors[f"{name}delta"]
    if not (embedding.isfinite().all() and delta.isfinite().all()):
        raise ValueError("The adapter holds numbers that are not finite.")
    ids, types = tensors[f"{name}ids"].tolist(), tensors[f"{name}types"].tolist()
    if min(ids) < 0 or (vocabulary is not None and max(ids) >= vocabulary):
        raise ValueError("The adapter has token ids outside the vocabulary.")
    if min(types) < 0 or max(types) > 4 * len(ids):
        raise ValueError("The adapter has unknown token types.")
    return Prompt(Tokens.from_reference(ids, types), embedding, delta)


def _classifier(tensors: dict[str, Tensor], metadata: dict[str, Any], prompts: int, size: int) -> Classifier | None:
    stored = {
        name.removeprefix(_CLASSIFIER): tensor for name, tensor in tensors.items() if name.startswith(_CLASSIFIER)
    }
    if not stored:
        if prompts > 1:
            raise ValueError("The adapter has several prompts and no classifier.")
        return None
    labels = metadata.get("label_ids")
    return Classifier.from_tensors(stored, prompts, len(labels) if isinstance(labels, list) else 0, size)


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
    if not isinstance(header, dict):
        raise ValueError("The adapter does not hold embedding, delta, ids and types.")
    if (written := _written_format(header)) > FORMAT:
        raise NewerFormat(written)
    return header


def _written_format(header: dict[str, Any]) -> int:
    """The format that a blob says it has, before anything else is expected of it; 0 where it says none."""
    try:
        written = json.loads(header["__metadata__"][_METADATA])["format"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return 0
    return written if isinstance(written, int) else 0


def _count(header: dict[str, Any]) -> int:
    """How many prompts there are; 0 where anything is missing, or there that does not belong."""
    names = {name for name in header if not name.startswith(_CLASSIFIER)} - {"__metadata__"}
    count = len(names) // len(_FORMAT)
    expected = {f"prompts.{number}.{name}" for number in range(count) for name in _FORMAT}
    return count if names == expected and "__metadata__" in header else 0


def _check_shapes(header: dict[str, Any], name: str) -> int:
    """H, if dtypes and shapes of a prompt are as they must be."""
    shapes = {}
    for part, (dtype, dimensions) in _FORMAT.items():
        entry = header[f"{name}{part}"] if isinstance(header[f"{name}{part}"], dict) else {}
        shape = entry.get("shape")
        if entry.get("dtype") != dtype or not isinstance(shape, list) or len(shape) != dimensions:
            raise ValueError(f"The adapter's {part} must have {dimensions} dimensions of type {dtype}.")
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"The adapter's {part} must have sizes that are whole numbers.")
        shapes[part] = shape
    if any(not isinstance(entry, dict) or entry.get("dtype") != "F32" for entry in _of_classifier(header)):
        raise ValueError("The adapter's classifier must be of type F32.")
    tokens, size = shapes["embedding"]
    if shapes["delta"] != [tokens, size] or shapes["ids"] != [tokens] or shapes["types"] != [tokens] or not tokens:
        raise ValueError("The adapter's tensors have different lengths.")
    return size


def _of_classifier(header: dict[str, Any]) -> list[Any]:
    return [entry for name, entry in header.items() if name.startswith(_CLASSIFIER)]
