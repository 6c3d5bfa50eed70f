"""What the fits that follow a search take, in seconds. They run on one thread, whatever device the models run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.scoring.head import ENOUGH_JUDGED, PENALTIES
from worker.cpt.scoring.views import VIEWS
from worker.cpt.selection.costs import ENCODER_FOLDS
from worker.cpt.selection.encoding import Encoding
from worker.cpt.selection.folds import most_folds
from worker.cpt.selection.trial_run import TrialRun

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

    def on_vectors(self, examples: int, encoders: int) -> float:
        """Seconds for the heads on the vectors of so many examples by the first encoders, as they are."""
        return sum(self._of_encoder(examples, most_folds(examples), each) for each in self.vectors[:encoders])

    def on_tuned(self, examples: int) -> float:
        """Seconds for the heads on the vectors of so many examples by the first encoder, tuned."""
        return sum(self._of_encoder(examples, ENCODER_FOLDS, each) for each in self.vectors[:1])

    def on_states(self, examples: int, prompts: int) -> float:
        """Seconds for the heads on the states of so many examples, read under each of several prompts.

        Each prompt holds its share of them out.
        """
        held_out = examples // prompts
        judged = self._cross_fit(examples, held_out, self.states, most_folds(held_out))
        return prompts * (judged + self._fit(examples, self.states))

    def on_encoding(self, encoding: Encoding, examples: int) -> float:
        """Seconds for the heads on the vectors so far, or on all where that takes less, as of many folds are fewer."""
        made = encoding.frozen.examples
        if not encoding.frozen.complete:
            return min(self.on_vectors(count, 1) for count in (made, examples))
        return self.on_vectors(made, 1 + len(encoding.others)) + (self.on_tuned(made) if encoding.steps else 0.0)

    def on_run(self, run: TrialRun) -> float:
        """Seconds for the heads on the states that a trial has read so far."""
        prompts = len(run.plans)
        return sum(self.on_states(len(record.numbers), prompts) for record in run.records) / prompts

    def _of_encoder(self, examples: int, folds: int, vectors: tuple[int, int]) -> float:
        """The last layer alone is judged, and all are; one of both serves."""
        layers, size = vectors
        judged = (self._cross_fit(examples, examples, width, folds) for width in (size, layers * size))
        return sum(judged) + self._fit(examples, layers * size)

    def _cross_fit(self, examples: int, judged: int, size: int, folds: int) -> float:
        """All penalties are tried until enough are judged, then the best."""
        fold = max(1, judged // folds)
        first = min(folds, -(-ENOUGH_JUDGED // fold))
        return (len(PENALTIES) * first + folds - first) * self._fit(examples - fold, size)

    def _fit(self, rows: int, size: int) -> float:
        evaluations = min(_MOST_EVALUATIONS, 1 + rows // _ROWS_AN_EVALUATION)
        return evaluations * 4 * rows * min(rows, size) * (self.labels + _MORE_LABELS) / _RATE
