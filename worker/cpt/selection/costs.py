"""What a search costs, in floating-point operations: for its progress, its budget, and what is told beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.cpt.encoding.shots import Shots
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.tuning.contrast import BATCH, MOST_OF_LABEL

#: Folds that are predicted by an encoder that has not seen them, at most: each costs as much as what serves.
ENCODER_FOLDS: Final = 3
#: Examples whose tokens are counted to know the mean of all.
_SAMPLE = 64
#: Operations per parameter and token: forward; forward and back through activations; the same, back to a third.
_FORWARD, _BOTH, _UPPER_BOTH = 2, 4, 10 / 3
#: Tokens of a query that a node of the labels' trie takes as long as: its logits are computed and summed up.
_NODE_TOKENS = 1.6
#: Texts that are read in one piece of work, at most, and their tokens: a search is late by one piece.
_TEXTS_AT_ONCE, _TOKENS_AT_ONCE = 32, 1024


@dataclass(frozen=True)
class Costs:
    """Sizes that decide what a search costs.

    example: mean tokens of an example. name: mean tokens of what is known of a label. trie: tokens that a query is
    scored with besides its own. parameters: of the language model; encoder_parameters: those of each encoder that each
    token passes, the encoder that may be tuned first.
    """

    examples: int
    example: float
    name: float
    trie: int
    parameters: int
    encoder_parameters: tuple[int, ...]
    labels: int
    calibration_texts: int

    @classmethod
    def of(cls, model: Any, encoders: Sequence[SentenceEncoder], shots: Shots, calibration_texts: int) -> "Costs":
        """The sizes for some shots, by a sample of them."""
        every = max(1, len(shots) // _SAMPLE)
        lengths = [len(shots.example(number)) for number in range(0, len(shots), every)]
        names = range(len(shots.label_texts))
        return cls(
            examples=len(shots),
            example=sum(lengths) / len(lengths),
            name=sum(map(len, shots.names_of(names))) / max(1, len(names)),
            trie=len(LabelTrie.build(shots.label_ids).tokens),
            parameters=sum(weight.numel() for weight in model.parameters()),
            encoder_parameters=tuple(encoder.pass_parameters for encoder in encoders),
            labels=len(shots.labels),
            calibration_texts=calibration_texts,
        )

    @property
    def texts_at_once(self) -> int:
        """Texts that are read and scored in one piece of work; with many labels few."""
        return _at_once(self.example + self.trie)

    @property
    def states_at_once(self) -> int:
        """Texts whose states alone are read in one piece of work."""
        return _at_once(self.example)

    @property
    def names_at_once(self) -> int:
        """Names of labels that are read in one piece of work."""
        return _at_once(self.name)

    @property
    def _scored(self) -> float:
        """Tokens that it takes as long as to read a text and score its labels."""
        return self.example + _NODE_TOKENS * self.trie

    def inside(self, context_examples: int, most_tokens: int) -> int:
        """Examples that stand in a prompt of so many at most, and of so many tokens."""
        return max(1, min(context_examples, self.examples, int(most_tokens / self.example)))

    def worth(self, tokens: int) -> float:
        """Examples of mean length that have so many tokens."""
        return tokens / self.example

    def embedding(self, texts: int, encoder: int = 0) -> float:
        """Sentence vectors of so many texts by an encoder."""
        return _FORWARD * self.encoder_parameters[encoder] * self.example * texts

    def encoder_step(self, examples: int) -> float:
        """A step of tuning of the encoder on so many examples."""
        batch = min(examples, BATCH, MOST_OF_LABEL * self.labels)
        return _UPPER_BOTH * self.encoder_parameters[0] * self.example * batch

    def encoder_tuning(self, steps: int) -> float:
        """The encoders of all folds, and that which serves, tuned for so many steps, and the vectors by each."""
        texts = self.embedding(self.examples) + _FORWARD * self.encoder_parameters[0] * self.name * self.labels
        return (ENCODER_FOLDS + 1) * (steps * self.encoder_step(self.examples) + texts)

    def step(self, context: float, batch: int) -> float:
        """A step of tuning of a prompt of `context` examples of mean length on a batch."""
        return _BOTH * self.parameters * self.example * (context + batch)

    def reading(self, context: float, scored: int, others: int = 0) -> float:
        """Label scores and states of so many texts, and the states of others, under a prompt that is computed first."""
        tokens = context * self.example + scored * self._scored + others * self.example
        return _FORWARD * self.parameters * tokens

    def naming(self, labels: int) -> float:
        """States of what is known of so many labels, under a prompt."""
        return _FORWARD * self.parameters * self.name * labels

    def batch(self, prompts: int, context: int, batch_size: int | None) -> int:
        """Training examples of a step, where each of several prompts sees all folds but its own."""
        seen = self.examples - (self.examples // prompts if prompts > 1 else 0)
        training = seen - context if seen - context >= context else seen
        return min(batch_size or training, training)

    def prompt(self, steps: int, context: int, batch: int, examples: int, scored: int) -> float:
        """A prompt that is tuned for so many steps and read under; of the examples so many are scored."""
        every = min(examples, self.examples)
        first = min(scored, every)
        named = self.naming(self.labels) if examples else 0.0
        read = self.reading(context, first + self.calibration_texts if first else 0, every - first)
        return named + steps * self.step(context, batch) + read


def _at_once(tokens: float) -> int:
    """Texts of so many tokens that are read in one piece of work."""
    return max(1, min(_TEXTS_AT_ONCE, int(_TOKENS_AT_ONCE / max(1.0, tokens))))
