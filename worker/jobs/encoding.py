"""A spec as tokens. Knows the tokenizer, neither defaults nor prices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from app.contract.messages import Failure
from app.contract.names import ErrorCode
from app.contract.tuning import TuningSpec
from worker.cpt.encoding.context import encode_labels, encode_query
from worker.cpt.encoding.shots import Shots
from worker.cpt.encoding.template import Template
from worker.cpt.scoring.trie import MAX_LABEL_TOKENS, LabelTrie
from worker.models import LanguageModel


class Unplannable(Exception):
    """A spec that this model cannot be tuned with, for the reason in ``failure``."""

    def __init__(self, code: ErrorCode, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, param=param)


@dataclass(frozen=True)
class Encoded:
    """A `TuningSpec` as tokens: what is tuned on, and texts that are only measured or only calibrated with."""

    shots: Shots
    validation_texts: tuple[str, ...]
    calibration_texts: tuple[str, ...]

    @cached_property
    def validation(self) -> tuple[tuple[int, ...], ...]:
        """The validation examples as queries."""
        shots = self.shots
        return tuple(tuple(encode_query(shots.tokenizer, shots.template, text)) for text in self.validation_texts)

    @cached_property
    def label_tokens(self) -> int:
        """Tokens that every query is scored with besides its own."""
        return len(LabelTrie.build(self.shots.label_ids).tokens)


def encode(base: LanguageModel, spec: TuningSpec) -> Encoded:
    """Template and tokenise a spec.

    Raises `Unplannable` when two labels have the same tokens, or all together too many.
    """
    template, names = Template(**spec.template.model_dump()), spec.label_names
    param = "/examples" if spec.labels is None else "/labels"
    try:
        label_ids = encode_labels(base.tokenizer, template, names)
    except ValueError as error:
        raise Unplannable(ErrorCode.LABELS_INDISTINGUISHABLE, str(error), param) from error
    examples, numbers = (*spec.examples, *spec.training_examples), {name: i for i, name in enumerate(names)}
    descriptions = spec.label_descriptions
    encoded = Encoded(
        Shots(
            tokenizer=base.tokenizer,
            template=template,
            labels=names,
            label_ids=tuple(map(tuple, label_ids)),
            texts=tuple(example.text for example in examples),
            truth=tuple(numbers[example.label] for example in examples),
            context=len(spec.examples),
            label_texts=tuple(_meaning(name, descriptions.get(name)) for name in names),
        ),
        tuple(example.text for example in spec.validation_examples),
        spec.calibration_texts,
    )
    _check_labels(encoded.label_tokens, param)
    return encoded


def _meaning(name: str, description: str | None) -> str:
    """What a label means in words, for the encoder."""
    words = name.replace("_", " ")
    return f"{words}: {description}" if description else words


def _check_labels(nodes: int, param: str) -> None:
    if nodes > MAX_LABEL_TOKENS:
        raise Unplannable(
            ErrorCode.TEXT_TOO_LONG,
            f"beginnings that they share counted once, the labels have {nodes} tokens before their last ones; "
            f"at most {MAX_LABEL_TOKENS} can be scored",
            param,
        )
