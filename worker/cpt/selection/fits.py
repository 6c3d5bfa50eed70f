"""What the fits that follow a search take, in seconds. They run on one thread, whatever device the models run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.scoring.head import ENOUGH_JUDGED, PENALTIES
from worker.cpt.scoring.views import VIEWS
from worker.cpt.selection.folds import most_folds

#: Operations in float64 a second, and the labels that the rest of an evaluation takes as long as. Of vectors of
#: banking77 (77 labels), trec and agnews (6 and 4) 9e9 to 17e9 were measured beside other work, twice as many without.
_RATE: Final = 25e9
_MORE_LABELS: Final = 8
#: Evaluations of a loss that a fit takes: more with more rows, up to a bound (11, 63 and 91 of 160, 800, 2,000 rows).
_MOST_EVALUATIONS: Final = 90
_ROWS_AN_EVALUATION: Final = 13


@dataclass(frozen=True)
class Fits:
    """The heads on sentence vectors and on states.

    vectors: layers and numbers of a layer of an example's vector, of each encoder. states: numbers of its states under
    a prompt, 0 where no heads are fitted to them.
    """

    vectors: tuple[tuple[int, int], ...]
    states: int
    labels: int

    @classmethod
    def of(cls, model: Any, encoders: Sequence[SentenceEncoder], labels: int, heads: bool) -> Fits:
        """Those of a model and of the encoders that take part; heads: whether there are any on states."""
        vectors = tuple((len(encoder.layers), encoder.size) for encoder in encoders)
        return cls(vectors, len(VIEWS) * model.config.get_text_config().hidden_size if heads else 0, labels)

    def on_vectors(self, examples: int) -> float:
        """Seconds for the heads on the vectors of so many examples: on the last layer alone, and on all."""
        return sum(
            self._cross_fit(examples, size)
            + self._cross_fit(examples, layers * size)
            + self._fit(examples, layers * size)
            for layers, size in self.vectors
        )

    def on_states(self, examples: int) -> float:
        """Seconds for the heads on the states of so many examples under one prompt."""
        return self._cross_fit(examples, self.states) + self._fit(examples, self.states)

    def _cross_fit(self, examples: int, size: int) -> float:
        folds = most_folds(examples)
        one = self._fit(examples - examples // folds, size)
        if examples // folds >= ENOUGH_JUDGED:
            return (len(PENALTIES) + folds - 1) * one
        # More examples must not seem to take less: time for 200 a fold is time for fewer.
        return min(len(PENALTIES) * folds * one, self._cross_fit(folds * ENOUGH_JUDGED, size))

    def _fit(self, rows: int, size: int) -> float:
        evaluations = min(_MOST_EVALUATIONS, 1 + rows // _ROWS_AN_EVALUATION)
        return evaluations * 4 * rows * min(rows, size) * (self.labels + _MORE_LABELS) / _RATE
