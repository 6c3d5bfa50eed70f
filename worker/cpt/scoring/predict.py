"""From queries to probabilities: what is read under each prompt, the sentence vectors, and the classifier over both."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.mixture import Mixture
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import Reading, read
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS
from worker.cpt.turn import ALONE, Turn


@dataclass(frozen=True)
class Predictor:
    """The prompts of a context over a model, with what makes probabilities of them.

    `classifier` is None where the label scores under a single prompt are all there is. `encoder` gives the sentence
    vectors that its encoder's head was fitted to, if it has one.
    """

    prefixes: tuple[PrefixKV, ...]
    label_ids: tuple[tuple[int, ...], ...]
    classifier: Classifier | None = None
    encoder: SentenceEncoder | None = None

    @property
    def tokens(self) -> int:
        """Tokens of the longest prompt."""
        return max(prefix.tokens for prefix in self.prefixes)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(prefix.nbytes for prefix in self.prefixes) + (self.classifier.nbytes if self.classifier else 0)

    def probabilities(
        self,
        model: Any,
        queries: Sequence[Sequence[int]],
        texts: Sequence[str],
        *,
        exact: bool = False,
        turn: Turn = ALONE,
    ) -> Tensor:
        """[N, L] float64 for queries as tokens and as texts; `exact` scores all labels, whatever the shortlist.

        It does so only where label scores weigh anything.

        Raises ValueError where the classifier needs an encoder and there is none.
        """
        classifier = self.classifier
        if classifier is None:
            found = read(model, self.prefixes[0], [self._trie] * len(queries), queries, views=(), turn=turn)
            return found.scores.double().softmax(1)
        vectors = None
        if classifier.encoder_head is not None and self.encoder is not None:
            vectors = self.encoder.embed(texts, turn, classifier.encoder_change)
        if classifier.shortlist is None or (exact and classifier.weighs_scores):
            return classifier.probabilities(self._read(model, queries, [self._trie] * len(queries), turn), vectors)
        return self._shortlisted(model, classifier, queries, vectors, turn)

    @cached_property
    def _trie(self) -> LabelTrie:
        return LabelTrie.build(self.label_ids)

    def _read(
        self, model: Any, queries: Sequence[Sequence[int]], tries: Sequence[LabelTrie], turn: Turn
    ) -> list[Reading]:
        views = VIEWS if self.classifier and self.classifier.state_heads else ()
        return [read(model, prefix, tries, queries, views=views, turn=turn) for prefix in self.prefixes]

    def _shortlisted(
        self, model: Any, classifier: Classifier, queries: Sequence[Sequence[int]], vectors: Tensor | None, turn: Turn
    ) -> Tensor:
        """The heads share out the probability; the labels that are listed share theirs out anew by their scores.

        The encoder lists them, so that states and scores are of one pass. Without it the states do, of a pass before.
        """
        assert classifier.cheap is not None  # noqa: S101 - a classifier with a shortlist has it
        count = classifier.shortlist or 0
        before: Sequence[Reading] = ()
        if classifier.state_heads and (classifier.encoder_head is None or not count):
            before = self._read(model, queries, [LabelTrie.empty()] * len(queries), turn)
        if not count:
            return classifier.cheap.probabilities(torch.stack(classifier.cheap_parts(before, vectors)))
        listed = classifier.listing(before, vectors).topk(count, dim=1).indices  # [N, S]
        tries = [LabelTrie.build([self.label_ids[label] for label in row]) for row in listed.tolist()]
        readings = self._read(model, queries, tries, turn)
        cheap = torch.stack(classifier.cheap_parts(readings, vectors))  # [M - 1, N, L]
        pairs = zip(readings, classifier.score_bias, strict=True)
        labels = torch.stack([(each.scores.double() - bias[listed]).log_softmax(1) for each, bias in pairs]).mean(0)
        return share_out(classifier.mixture, classifier.cheap.probabilities(cheap), listed, labels, cheap)


def share_out(mixture: Mixture, probabilities: Tensor, listed: Tensor, scores: Tensor, cheap: Tensor) -> Tensor:
    """[N, L] where the labels `listed` [N, S] share out their part of `probabilities` anew by the whole mixture.

    scores: [N, S] log-probabilities of the listed labels, up to a constant a row. cheap: [M - 1, N, L] of the heads.
    """
    logits = mixture.weights[0].double() * scores + mixture.bias[listed]
    for weight, part in zip(mixture.weights[1:], cheap, strict=True):
        logits = logits + weight.double() * part.gather(1, listed)
    shared = probabilities.gather(1, listed).sum(1, keepdim=True)
    return probabilities.scatter(1, listed, shared * logits.softmax(1))
