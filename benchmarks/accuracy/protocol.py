"""The protocol of every accuracy figure: which rows are drawn for training and which are tested on.

k rows per class from ``train.jsonl`` with seeds 0, 1, 2, or what a class has; the first 500 rows of ``test.jsonl``
shuffled with seed 1234. banking77 is used with every fourth label in alphabetical order (20 labels) and, as
banking77_all, whole; chnsenticorp is cut to 100 characters. Defaults are chosen on trec, agnews and banking77_design,
twenty labels of the half of Banking77's that banking77 has none of; the others are unseen.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ENGLISH = ("sst2_sent", "agnews", "trec", "banking77")
DESIGN = ("trec", "agnews", "banking77_design")
SEEDS = (0, 1, 2)
#: Examples a class; of banking77_all others.
SHOTS = (2, 4, 8, 16, 32, 64)
SHOTS_OF_77 = (5, 10)
TEST_ROWS = 500
#: Texts of training rows that were not drawn, for what learns from texts without labels.
UNLABELLED_TEXTS = 500

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class DataSet:
    """(text, label) rows of one data set, restricted as the protocol says."""

    name: str
    labels: tuple[str, ...]
    train: Rows
    test: Rows

    def draw(self, k: int, seed: int) -> Rows:
        """k rows per class, or all that a class has, shuffled."""
        generator = random.Random(seed)
        by_label: dict[str, list[str]] = defaultdict(list)
        for text, label in self.train:
            by_label[label].append(text)
        drawn = [
            (text, label)
            for label in self.labels
            for text in generator.sample(by_label[label], min(k, len(by_label[label])))
        ]
        generator.shuffle(drawn)
        return drawn

    def unlabelled(self, drawn: Rows) -> tuple[str, ...]:
        """Texts of training rows that are not among those drawn, shuffled."""
        texts = sorted({text for text, _ in self.train} - {text for text, _ in drawn})
        random.Random(1234).shuffle(texts)
        return tuple(texts[:UNLABELLED_TEXTS])


def load(folder: Path, name: str) -> DataSet:
    """The data set in ``folder / name``, or the part of one that the name says."""
    source = name.split("_", maxsplit=1)[0] if name.startswith("banking77") else name
    train, test = (_rows(folder / source / f"{split}.jsonl") for split in ("train", "test"))
    labels = _labels(name, sorted({label for _, label in train}))
    if name == "chnsenticorp":
        train, test = ([(text[:100], label) for text, label in rows] for rows in (train, test))
    kept = set(labels)
    train, test = ([row for row in rows if row[1] in kept] for rows in (train, test))
    random.Random(1234).shuffle(test)
    return DataSet(name, tuple(labels), train, test[:TEST_ROWS])


def _labels(name: str, labels: list[str]) -> list[str]:
    if name == "banking77":
        return labels[::4]
    return labels[1::2][:20] if name == "banking77_design" else labels


def _rows(path: Path) -> Rows:
    return [(row["text"], row["label"]) for row in map(json.loads, path.read_text().splitlines())]
