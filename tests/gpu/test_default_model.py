"""The default model answers the same on the device as on the CPU, on real rows."""

import csv
from pathlib import Path

import torch

from worker.cpt.encoding.context import Context, encode_labels, encode_query
from worker.cpt.encoding.template import Template
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score
from worker.models import LanguageModel

ROWS = Path(__file__).parents[2] / "examples" / "support-intents.csv"


def _scores(base: LanguageModel, examples: list[tuple[str, str]], texts: list[str], labels: list[str]) -> torch.Tensor:
    template = Template()
    context = Context.build(base.tokenizer, template, examples)
    prefix = PrefixKV.compute(base.model, word_embeddings(base.model, context.tokens.ids))
    queries = [encode_query(base.tokenizer, template, text) for text in texts]
    return score(base.model, prefix, encode_labels(base.tokenizer, template, labels), queries)


def test_labels_of_real_rows_are_those_of_the_cpu(default_models: tuple[LanguageModel, LanguageModel]) -> None:
    with ROWS.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    labels = sorted({label for _, label in rows})
    on_cpu, on_device = (_scores(base, rows[::3], [text for text, _ in rows], labels) for base in default_models)
    assert torch.equal(on_cpu.argmax(1), on_device.argmax(1))
    torch.testing.assert_close(on_device, on_cpu, rtol=1e-3, atol=1e-2)
