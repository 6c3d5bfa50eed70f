"""What is measured: the default base model with contexts made of the benchmark's texts."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from app.contract.names import DEFAULT_MODELS
from benchmarks.texts import Texts, load_texts
from worker.config import ModelSource
from worker.cpt.encoding.context import Context, Tokens, encode_example, encode_labels, encode_query
from worker.cpt.encoding.template import Template
from worker.cpt.tuning.config import CPTConfig
from worker.models import LanguageModel, load_language_model

TEMPLATE = Template()
MODEL = next(iter(DEFAULT_MODELS))


@dataclass(frozen=True)
class Task:
    """A context and its training examples, one copy of each of its own."""

    context: Context
    training: list[Tokens]
    config: CPTConfig


@dataclass(frozen=True)
class Subject:
    """The base model as the worker loads it, the folder of its float32 weights, and the texts."""

    base: LanguageModel
    folder: Path
    texts: Texts

    @classmethod
    def load(cls, cache: Path, data: Path) -> Subject:
        """`cache` keeps the dequantised weights between runs; `data` is the folder of the data sets."""
        base = load_language_model(MODEL, ModelSource(**DEFAULT_MODELS[MODEL]), cache, print)
        return cls(base, Path(base.model.name_or_path), load_texts(data, base.tokenizer))

    def task(self, examples: int) -> Task:
        """A context of so many examples, with the decaying loss."""
        rows = self.texts.examples[:examples]
        context = Context.build(self.base.tokenizer, TEMPLATE, rows)
        copies = [encode_example(self.base.tokenizer, TEMPLATE, *row) for row in rows]
        training = [replace(tokens, context_index=number) for number, tokens in enumerate(copies)]
        config = context.config(opt_weighted_loss_type="decay", opt_loss_decay_factor=0.95)
        return Task(context, training, config)

    def queries(self, count: int) -> list[list[int]]:
        """Ids of so many queries, of mixed lengths."""
        return [encode_query(self.base.tokenizer, TEMPLATE, text) for text in self.query_texts(count)]

    def query_texts(self, count: int) -> list[str]:
        """The texts of the same queries, which come again when they run out."""
        texts = self.texts.queries
        return [texts[number % len(texts)] for number in range(count)]

    def label_ids(self, count: int) -> list[list[int]]:
        """Ids of the first so many labels."""
        return encode_labels(self.base.tokenizer, TEMPLATE, self.texts.labels[:count])

    def plain_model(self) -> Any:
        """A second copy of the model, with transformers' own attention, for peers."""
        return AutoModelForCausalLM.from_pretrained(self.folder).eval().requires_grad_(False)


def gguf_file() -> Path:
    """The quantised file that the default base model comes from."""
    spec = importlib.util.find_spec("contextune_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("contextune-smollm2 is not installed")
    return next(Path(spec.origin).parent.glob("*.gguf"))
