"""The first answer of a bare process: imports, the model, the prefix, one query. Run through `benchmarks.isolation`.

It is what a restart of the worker is held against.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.isolation import answer
from benchmarks.subject import TEMPLATE, Subject
from worker.cpt.encoding.context import encode_query
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score


def classify_once(cache: str, data: str, examples: int, text: str) -> list[float]:
    """Log-probabilities of two labels for one text."""
    subject = Subject.load(Path(cache), Path(data))
    ids = subject.task(examples).context.tokens.ids
    prefix = PrefixKV.compute(subject.base.model, word_embeddings(subject.base.model, ids))
    query = encode_query(subject.base.tokenizer, TEMPLATE, text)
    found: list[float] = score(subject.base.model, prefix, subject.label_ids(2), [query])[0].tolist()
    return found


if __name__ == "__main__":
    answer(classify_once)
