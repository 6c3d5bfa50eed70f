"""Base models: loads the frozen language models of the allow-list. Knows neither contexts nor jobs.

Only safetensors and GGUF files are read, and no code of a model's repository is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

from worker.config import ModelSource
from worker.cpt.kernels.linear import product
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.model.support import check_supported, context_length
from worker.cpt.model.trial import try_out
from worker.devices import resolve
from worker.identity import fingerprint, model_files
from worker.unpacking import unpacked

_EMBEDDED: Final = {
    "embedded:smollm2-135m-instruct": ("contextune_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}

#: Parameters from which on a model is loaded in bfloat16 on a GPU.
_LARGE: Final = 10**9
#: Products that the matrix rate is measured with: on a busy machine few of them have it to themselves.
_PRODUCTS: Final = 16
#: Their sizes, rows by inner by columns: small enough for a CPU to be quick, large enough for a GPU to be busy.
_PRODUCT_SIZES: Final = {"cpu": (256, 1024, 1024), "cuda": (4096, 4096, 4096)}
_FILES_DIGITS: Final = 16
#: Word embeddings that are looked up at once.
_LOOKED_UP: Final = 4096


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal language model, ready to compute.

    ``flops`` is the device's measured matrix rate (FLOP/s), ``embedding_norm`` the mean norm of the word embeddings,
    ``fingerprint`` the SHA-256 of its files, ``revision`` the configured one. Of the sentence encoders beside it the
    first serves unless held-out examples speak for another.
    """

    id: str
    model: Any
    tokenizer: Any
    context_length: int
    parameters: int
    flops: float
    embedding_norm: float
    fingerprint: str
    revision: str | None = None
    encoders: tuple[SentenceEncoder, ...] = ()

    @property
    def device(self) -> str:
        """Where it computes."""
        return str(self.model.device)

    def encoder_of(self, fingerprint: str | None) -> SentenceEncoder | None:
        """The sentence encoder of these files, if it is there."""
        return next((encoder for encoder in self.encoders if encoder.fingerprint == fingerprint), None)

    @property
    def files(self) -> str:
        """What stands for the files of the model and of its encoders, in few digits."""
        names = [self.fingerprint, *(encoder.fingerprint for encoder in self.encoders)]
        return hashlib.sha256(" ".join(names).encode()).hexdigest()[:_FILES_DIGITS]

    @property
    def arithmetic(self) -> dict[str, str]:
        """What decides the bits of a result: a tuning that began on another goes on with other numbers."""
        dtype, device = str(self.model.dtype).removeprefix("torch."), self.model.device.type
        return {"fingerprint": self.fingerprint, "dtype": dtype, "device": device}


def load_language_model(model_id: str, source: ModelSource, cache: Path, stage: Callable[[str], None]) -> LanguageModel:
    """Load a model of the allow-list; ``stage`` is told what is being done.

    The weights of a GGUF file are dequantised once and kept in the folder ``cache``, as are hashes of files.
    Raises ValueError, naming the reason, for a model that contexts cannot be tuned for; OSError if it is not there.
    """
    gguf = _gguf_file(source.path)
    hashing = partial(stage, f"hashing the files of {model_id}")
    device = resolve(source.device)
    content, folder = None, source.path
    if gguf is not None:
        content = fingerprint([gguf], cache, hashing)
        dtype = _dequantised_dtype(source.dtype, device, gguf)
        dequantise = partial(_dequantise, model_id, gguf, dtype, stage)
        folder = str(unpacked(gguf.stem, f"{content} {dtype}", cache, dequantise))
    revision = source.revision if gguf is None else None
    stage(f"loading {model_id}")
    config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    check_supported(config)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        revision=revision,
        dtype=dtype_for(source.dtype, device, config),
        device_map={"": device},  # straight to where it computes, tensor by tensor
        use_safetensors=True,
        trust_remote_code=False,
    )
    model = model.eval().requires_grad_(False)
    try_out(model)
    tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=False)
    return LanguageModel(
        id=model_id,
        model=model,
        tokenizer=tokenizer,
        context_length=context_length(model.config),
        parameters=sum(p.numel() for p in model.parameters()),
        flops=_measure_flops(model),
        embedding_norm=embedding_norm(model),
        fingerprint=content or fingerprint(model_files(_downloaded(folder, revision)), cache, hashing),
        revision=revision,
    )


def _downloaded(path: str, revision: str | None) -> Path:
    """The folder on this machine that a folder or an id on the model hub stands for."""
    return Path(str(cached_file(path, "config.json", revision=revision))).parent


@torch.inference_mode()
def embedding_norm(model: Any) -> float:
    """Mean norm of the word embeddings as the model looks them up: some models scale them then."""
    size = model.get_input_embeddings().num_embeddings
    parts = [range(start, min(start + _LOOKED_UP, size)) for start in range(0, size, _LOOKED_UP)]
    return sum(word_embeddings(model, part).float().norm(dim=1).sum().item() for part in parts) / size


def _parameters(config: Any) -> int:
    """Parameters of a model, counted without its weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


def _gguf_file(path: str) -> Path | None:
    if path in _EMBEDDED:
        package, name = _EMBEDDED[path]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise OSError(f"{path} needs the package {package.replace('_', '-')}; `make weights` makes it, into dist/")
        return Path(spec.origin).parent / name
    return Path(path) if path.endswith(".gguf") else None


def _dequantised_dtype(name: str, device: str, gguf: Path) -> torch.dtype:
    """The dtype that ``name`` means for the model of ``gguf``: weights of a large one are never whole in float32."""
    asked = name == "auto" and device.startswith("cuda")  # reading it takes seconds
    config = AutoConfig.from_pretrained(str(gguf.parent), gguf_file=gguf.name) if asked else None
    return dtype_for(name, device, config)


def _dequantise(model_id: str, gguf: Path, dtype: torch.dtype, stage: Callable[[str], None], folder: Path) -> None:
    """Write the model of ``gguf`` as safetensors, its tensors dequantised one by one, each at once into ``dtype``."""
    stage(f"dequantising {model_id} (first start only)")
    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=dtype)
    # Its weights are whole numbers no more, but transformers would not save those of a quantised model.
    del model.config.quantization_config, model.hf_quantizer, model.is_quantized, model.quantization_method
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(folder)


def dtype_for(name: str, device: str, config: Any) -> torch.dtype:
    """The dtype that ``name`` means: "auto" is float32, but bfloat16 on a GPU from a billion parameters on.

    Raises ValueError for one that contexts cannot be tuned in.
    """
    if name == "auto":
        large = device.startswith("cuda") and _parameters(config) >= _LARGE
        return torch.bfloat16 if large else torch.float32
    if name == "float16":  # gradients of a long context fall below its smallest number
        raise ValueError("dtype float16: contexts cannot be tuned in it; use bfloat16 or float32")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _measure_flops(model: Any) -> float:
    """Matrix-multiply rate of the model's device in its dtype: the fastest of many products of one size."""
    rows, inner, columns = _PRODUCT_SIZES.get(model.device.type, _PRODUCT_SIZES["cpu"])
    left = torch.randn(rows, inner, device=model.device, dtype=model.dtype)
    weight = torch.randn(columns, inner, device=model.device, dtype=model.dtype)
    seconds = []
    for _ in range(_PRODUCTS):
        started = time.perf_counter()
        product(left, weight)[0, 0].item()  # once all of it is there
        seconds.append(time.perf_counter() - started)
    return 2 * rows * inner * columns / min(seconds[1:])
