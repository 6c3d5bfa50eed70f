"""Plain contexts made ready to answer: tokenised, run once, and corrected by what they say of any text.

Nothing is held out, so nothing is fitted. The correction is batch calibration (Zhou et al. 2023, arXiv 2309.17249) with
the context's own texts as the batch, those of all labels weighing the same; where a label has none that finds room
after the context, or there are more labels than can be read in a moment, contextual calibration (Zhao et al. 2021,
arXiv 2102.09690) with texts that say nothing.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, zip_longest
from typing import Final

import torch
from torch import Tensor

from app.contract.names import ErrorCode
from app.contract.plain import PlainContext
from worker.classification.resident import CannotClassify, Resident
from worker.cpt.encoding.context import Context, encode_labels, encode_query
from worker.cpt.encoding.template import Template
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.mixture import prior_mixture
from worker.cpt.scoring.predict import Predictor
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score
from worker.cpt.scoring.trie import MAX_LABEL_TOKENS, LabelTrie
from worker.models import LanguageModel

#: Tokens that are read for the correction, those of the labels included: a second on two cores.
_MOST_TOKENS: Final = 2048
_CONTENT_FREE: Final = ("N/A", "...", "?")


def prepare_plain(base: LanguageModel, plain: PlainContext) -> Resident:
    """The context, ready to answer. Raises `CannotClassify` where the model cannot read it."""
    return _Preparation(base, plain).resident()


class _Preparation:
    def __init__(self, base: LanguageModel, plain: PlainContext) -> None:
        self._base = base
        self._plain = plain
        self._template = Template(**plain.template.model_dump())
        self._param = "/examples" if plain.examples else "/labels"
        self._names = [label.name for label in plain.labels]

    def resident(self) -> Resident:
        label_ids = self._label_ids()
        nodes = len(LabelTrie.build(label_ids).tokens)
        if nodes > MAX_LABEL_TOKENS:
            text = f"all labels together have {nodes} tokens; at most {MAX_LABEL_TOKENS} can be scored"
            raise CannotClassify(ErrorCode.TEXT_TOO_LONG, text, self._param)
        model, tokenizer = self._base.model, self._base.tokenizer
        tokens = Context.build(tokenizer, self._template, self._plain.shown, self._plain.instructions).tokens
        label = max(map(len, label_ids))
        self._check_length(len(tokens), label)
        prefix = PrefixKV.compute(model, word_embeddings(model, tokens.ids))
        queries, weights = self._read_for_correction(nodes, self._base.context_length - len(tokens) - label)
        scores = score(model, prefix, label_ids, queries).double().log_softmax(1)  # [Q, L]
        bias = (weights[:, None] * scores).sum(0) / weights.sum()
        classifier = Classifier(bias[None].float(), prior_mixture((1.0,), len(label_ids)))
        return Resident(Predictor((prefix,), label_ids, classifier), self._template)

    def _label_ids(self) -> tuple[tuple[int, ...], ...]:
        try:
            return tuple(map(tuple, encode_labels(self._base.tokenizer, self._template, self._names)))
        except ValueError as error:
            raise CannotClassify(ErrorCode.LABELS_INDISTINGUISHABLE, str(error), self._param) from error

    def _check_length(self, context: int, label: int) -> None:
        shortest, limit = label + min(map(len, self._content_free())), self._base.context_length
        if context + shortest > limit:
            raise CannotClassify(
                ErrorCode.CONTEXT_TOO_LONG,
                f"the context has {context} tokens, and the shortest text with a label {shortest}; together they may "
                f"have {limit}, the context length of the model",
                self._param,
            )

    def _read_for_correction(self, nodes: int, room: int) -> tuple[list[list[int]], Tensor]:
        """Queries of at most ``room`` tokens, and the weight [Q] of each.

        They are of texts that stand in the context, the first of every label first.
        """
        by_label: dict[str, list[str]] = defaultdict(list)
        for text, label in self._plain.shown:
            by_label[label].append(text)
        taken: list[tuple[str, list[int]]] = []
        left = _MOST_TOKENS
        rounds = zip_longest(*([(label, text) for text in texts] for label, texts in by_label.items()))
        for label, text in filter(None, chain.from_iterable(rounds)):
            query = self._query(text)
            if len(query) > room:
                continue
            left -= len(query) + nodes
            if left < 0:
                break
            taken.append((label, query))
        labels = [label for label, _ in taken]
        if set(labels) != set(by_label):
            fitting = [query for query in self._content_free() if len(query) <= room]
            return fitting, torch.ones(len(fitting)).double()
        weights = torch.tensor([1 / labels.count(label) for label in labels]).double()
        return [query for _, query in taken], weights

    def _content_free(self) -> list[list[int]]:
        return [self._query(text) for text in _CONTENT_FREE]

    def _query(self, text: str) -> list[int]:
        return encode_query(self._base.tokenizer, self._template, text)
