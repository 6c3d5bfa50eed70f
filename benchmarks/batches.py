"""A batch of 100,000 texts on the null model: its time against the in-process scorer's, and the gateway's memory.

``python -m benchmarks.batches``; with ``--count`` fewer. It runs a service of its own. The scorer of this process does
a tenth of the texts before the batch and another after it, as many at once, while the service is idle.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from transformers import AutoTokenizer

from benchmarks.in_process import InProcess
from benchmarks.measurement import timed
from benchmarks.null_model import NAME, save_null_model
from benchmarks.running import Service, running, until
from benchmarks.subject import gguf_file
from benchmarks.texts import load_texts
from worker.config import ModelSource
from worker.models import load_language_model

_EXAMPLES: Final = 8
#: Lines that a batch computes together on a CPU.
_AT_ONCE: Final = 128
_MEBIBYTE: Final = 2**20


def measure(count: int) -> dict[str, Any]:
    """Seconds and memory of a batch of so many texts, and the scorer's seconds."""
    with tempfile.TemporaryDirectory(prefix="contextune-null-") as folder:
        null = Path(folder, "model")
        file = gguf_file()
        save_null_model(AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name), null)
        base = load_language_model(NAME, ModelSource(path=str(null)), null, lambda _: None)
        texts = load_texts(Path("benchmarks/data"), base.tokenizer)
        examples = list(texts.examples[:_EXAMPLES])
        queries = [f"{texts.queries[number % len(texts.queries)]} {number}" for number in range(count)]
        peer = InProcess.prepare(base.model, base.tokenizer, examples)
        tenth = count // 10
        before = 10 * timed(lambda: _score(peer, queries[:tenth]))
        models = {NAME: {"path": str(null)}}
        with running(models, Path(folder, "cache"), {"ENCODER": "none"}) as service:
            context, job = service.create(NAME, examples, method="icl")
            service.succeeded(job)
            found = _batch(service, context, queries)
        after = 10 * timed(lambda: _score(peer, queries[-tenth:]))
    scorer = (before + after) / 2
    return {"texts": count, "scorer_seconds": [before, after], "ratio": found["seconds"] / scorer, **found}


def _score(peer: InProcess, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), _AT_ONCE):
        peer.classify(texts[start : start + _AT_ONCE])


def _batch(service: Service, context: str, texts: Sequence[str]) -> dict[str, Any]:
    """Post the texts as a file, wait for the end, and read the results."""
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    gateway, headers = _gateway(service), {"Content-Type": "application/jsonl"}
    idle = _status(gateway, "VmRSS")
    began = time.perf_counter()
    posted = service.http.post("/batches", params={"context": context}, content=content, headers=headers)
    batch = posted.raise_for_status().json()["id"]
    uploaded = time.perf_counter()
    until(lambda: service.job(batch)["terminal"], 3600)
    ended = time.perf_counter()
    with service.http.stream("GET", f"/batches/{batch}/results") as results:
        lines = sum(block.count(b"\n") for block in results.iter_bytes())
    read = time.perf_counter()
    if lines != len(texts):
        raise RuntimeError(f"{lines} results of {len(texts)} texts")
    return {
        "seconds": ended - began,
        "upload_seconds": uploaded - began,
        "results_seconds": read - ended,
        "file_mib": len(content) / _MEBIBYTE,
        "gateway_idle_mib": idle / _MEBIBYTE,
        "gateway_peak_mib": _status(gateway, "VmHWM") / _MEBIBYTE,
    }


def _gateway(service: Service) -> psutil.Process:
    children = psutil.Process(service.process.pid).children(recursive=True)
    return next(child for child in children if child.cmdline()[-1] == "app.main")


def _status(process: psutil.Process, field: str) -> int:
    """Bytes in a field of a process's status."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Print what was measured, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="texts")
    print(json.dumps(measure(parser.parse_args().count), indent=2))


if __name__ == "__main__":
    main()
