"""The texts that speed is measured with: rows of Banking77, or the repository's examples where that is absent.

Speed depends on lengths alone, so that the examples with varied openings will do.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.protocol import Rows, load
from worker.cpt.encoding.context import encode_example
from worker.cpt.encoding.template import Template

TOKENS = 28
LABELS_IN_CONTEXT = 14
ROWS_PER_LABEL = 6
LABELS = 77

_EXAMPLES = Path(__file__).parent.parent / "examples" / "support-intents.json"
_OPENINGS = (
    "Hello, I have a question for you:",
    "Please help me with this one:",
    "I wrote to you last week already.",
    "Good morning, maybe you can tell me.",
    "This is the second time that I ask.",
    "Sorry to bother you again about this.",
    "I am a new customer and do not know.",
    "My friend told me to ask you directly.",
    "Before I go on holiday I must know this.",
    "It is rather urgent, so please be quick.",
    "I looked at the app and found nothing.",
)


@dataclass(frozen=True)
class Texts:
    """84 examples of about 28 tokens with 14 labels in turn, queries of mixed lengths, and 77 labels to tell apart."""

    source: str
    examples: Rows
    queries: tuple[str, ...]
    labels: tuple[str, ...]


def load_texts(folder: Path, tokenizer: Any) -> Texts:
    """Texts from the data folder if it holds Banking77, else made of the examples."""
    if (folder / "banking77").is_dir():
        data = load(folder, "banking77")
        names = (json.loads(line)["label"] for line in (folder / "banking77" / "train.jsonl").read_text().splitlines())
        queries = tuple(text for text, _ in data.test)
        return Texts("Banking77", _examples(data.train, tokenizer), queries, tuple(sorted(set(names))))
    rows = _varied()
    queries = tuple(text[: 30 + 17 * (number % 6)] for number, (text, _) in enumerate(rows))
    return Texts("examples/ with varied openings", _examples(rows, tokenizer), queries, _made_labels())


def _examples(rows: Rows, tokenizer: Any) -> Rows:
    """Of the 14 labels with the most suitable rows, the six rows each whose length is nearest to 28 tokens."""
    by_label: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for text, label in dict(rows).items():
        by_label[label].append((abs(len(encode_example(tokenizer, Template(), text, label)) - TOKENS), text))
    nearest = {label: sorted(texts)[:ROWS_PER_LABEL] for label, texts in by_label.items()}
    suitable = sorted(nearest, key=lambda label: sum(distance for distance, _ in nearest[label]))
    labels = suitable[:LABELS_IN_CONTEXT]
    return [(nearest[label][turn][1], label) for turn in range(ROWS_PER_LABEL) for label in labels]


def _varied() -> Rows:
    examples = [(row["text"], row["label"]) for row in json.loads(_EXAMPLES.read_text())["examples"]]
    texts = [f"{opening} {text}" for opening in _OPENINGS for text, _ in examples]
    labels = itertools.cycle(_made_labels()[:LABELS_IN_CONTEXT])
    return list(zip(texts, labels, strict=False))


def _made_labels() -> tuple[str, ...]:
    """77 labels that share first words."""
    words = ("card", "arrival", "linking", "exchange", "rate", "lost", "stolen")
    pairs = itertools.permutations(words, 2)
    triples = itertools.permutations(words, 3)
    return tuple(" ".join(label) for label in itertools.islice(itertools.chain(pairs, triples), LABELS))
