"""One tree's share: run as a file with a tree's packages first on the path, it does what it is asked and says how long
it took.

It uses only what has been the same since the first release, and knows neither the other trees nor the turns.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

import worker
from app.contract.names import DEFAULT_MODELS
from worker.config import ModelSource
from worker.cpt.encoding.context import Context, encode_example, encode_labels, encode_query
from worker.cpt.encoding.template import Template
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score
from worker.cpt.tuning.tuner import Tuner, TuningSettings
from worker.models import load_language_model


def works(rows: list[tuple[str, str]], cache: Path) -> dict[str, Callable[[], object]]:
    """A step of tuning on all rows, and queries alone and 32 at once with two labels, on the default model."""
    name, source = next(iter(DEFAULT_MODELS.items()))
    base = load_language_model(name, ModelSource(**source, device="cpu"), cache, lambda _: None)
    template, tokenizer = Template(), base.tokenizer
    context = Context.build(tokenizer, template, rows)
    copies = [encode_example(tokenizer, template, *row) for row in rows]
    training = [replace(tokens, context_index=number) for number, tokens in enumerate(copies)]
    tuner = Tuner(base.model, context, training, context.config(), TuningSettings(steps=1000))
    prefix = PrefixKV.compute(base.model, word_embeddings(base.model, context.tokens.ids))
    labels = encode_labels(tokenizer, template, list(dict.fromkeys(label for _, label in rows))[:2])
    queries = [encode_query(tokenizer, template, rows[number % len(rows)][0]) for number in range(32)]

    def ask(count: int) -> Callable[[], object]:
        return lambda: score(base.model, prefix, labels, queries[:count])

    return {f"step, K = {len(rows)}": tuner.step, "1 query": ask(1), "32 queries": ask(32)}


def serve(tree: Path, rows: Path, cache: Path) -> None:
    """Say what can be asked for, and then, for each name that comes, the seconds by the clock and by the processor."""
    if not Path(str(worker.__file__)).is_relative_to(tree):
        raise RuntimeError(f"{worker.__file__} is not of {tree}")
    disable_progress_bar()
    with rows.open(encoding="utf-8", newline="") as file:
        examples = [(row["text"], row["label"]) for row in csv.DictReader(file)][:8]
    found = works(examples, cache)
    _say(list(found))
    for line in sys.stdin:
        work = found[line.rstrip("\n")]
        clock, processor = time.perf_counter(), time.process_time()
        work()
        _say([time.perf_counter() - clock, time.process_time() - processor])


def _say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:]))
