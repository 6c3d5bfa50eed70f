"""The whole service on this machine's devices: jobs from POST to success, and clients at work."""

from __future__ import annotations

import csv
import importlib.util
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from app.contract.names import DEFAULT_MODELS
from benchmarks.gpu.shapes import model_of
from benchmarks.isolation import ask
from benchmarks.measurement import timed
from benchmarks.running import Service, running

_ROWS: Final = Path(__file__).parents[2] / "examples" / "support-intents.csv"
_MODEL: Final = next(iter(DEFAULT_MODELS))
_EXAMPLES: Final = 8
#: Of the model that is made, by kind of device.
_SHAPE: Final = {"cuda": "135m", "cpu": "bytes"}
#: Requests at once, and inputs of each, by kind of device.
_LOADS: Final = {"cuda": ((1, 1), (64, 1), (256, 1), (64, 64)), "cpu": ((1, 1), (8, 8))}
_ENVIRONMENT: Final = {"MAX_PENDING_INPUTS": "65536", "CLASSIFY_TIMEOUT": "600", "MAX_WAIT": "600"}


def service(seconds: float, device: torch.device) -> dict[str, Any]:
    """Jobs of `cpt` and `auto` on eight examples, then each load for so many seconds."""
    with _ROWS.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    examples = _two_labels(texts)
    with tempfile.TemporaryDirectory(prefix="contextune-models-") as cache:
        source = _source(Path(cache) / "made", texts, device)
        with running({_MODEL: source}, Path(cache), _ENVIRONMENT) as service:
            loads = _LOADS[device.type]
            return {"model": source["path"].rpartition("/")[2]} | _measured(service, examples, texts, loads, seconds)


def _source(folder: Path, texts: list[str], device: torch.device) -> dict[str, Any]:
    """On a GPU the default model, where its package is installed; else one with random weights that is made here."""
    source = {**DEFAULT_MODELS[_MODEL], "device": str(device) if device.type == "cpu" else "auto"}
    if device.type == "cuda" and importlib.util.find_spec("contextune_smollm2"):
        return source
    model_of(_SHAPE[device.type], torch.device("cpu"), torch.float32).save_pretrained(folder)
    words = Tokenizer(BPE())
    words.pre_tokenizer, words.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    words.train_from_iterator(texts, BpeTrainer(initial_alphabet=ByteLevel.alphabet(), special_tokens=["<s>", "</s>"]))
    fast = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.save_pretrained(folder)
    return source | {"path": str(folder)}


def _measured(
    service: Service,
    examples: list[tuple[str, str]],
    texts: list[str],
    loads: tuple[tuple[int, int], ...],
    seconds: float,
) -> dict[str, Any]:
    jobs = {method: _job(service, examples, texts, method) for method in ("cpt", "auto")}
    context, job = service.create(_MODEL, examples, method="icl")
    service.succeeded(job)
    return {
        "jobs": jobs,
        "loads": {f"{n}x{size}": _load(service, context, texts, n, size, seconds) for n, size in loads},
    }


def _two_labels(texts: list[str]) -> list[tuple[str, str]]:
    """Eight examples: what they are called changes nothing in what they cost."""
    return [(text, ("this", "that")[number % 2]) for number, text in enumerate(texts[:_EXAMPLES])]


def _job(service: Service, examples: list[tuple[str, str]], texts: list[str], method: str) -> dict[str, Any]:
    """Seconds from the POST to the first answer, of a second job: the first one warms the worker up."""
    found: list[float] = []
    for _ in range(2):

        def work() -> None:
            context, job = service.create(_MODEL, examples, method=method)
            service.succeeded(job)
            service.classify(context, texts[:1]).raise_for_status()

        found.append(timed(work))
    return {"first": found[0], "seconds": found[1]}


def _load(
    service: Service, context: str, texts: list[str], clients: int, inputs: int, seconds: float
) -> dict[str, Any]:
    request = {"url": service.url, "context": context, "texts": texts, "clients": clients, "inputs": inputs}
    ask("benchmarks.clients", **request, seconds=seconds / 2)
    found = ask("benchmarks.clients", **request, seconds=seconds)
    latencies = sorted(found["latencies"])
    return {
        "p50": statistics.median(latencies),
        "p99": latencies[len(latencies) * 99 // 100],
        "inputs_per_second": found["inputs_per_second"],
    }
