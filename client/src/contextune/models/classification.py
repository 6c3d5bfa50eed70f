"""Answers to texts."""

from __future__ import annotations

from collections.abc import Iterator

from contextune.models.answered import Answered


class LabelConfidence(Answered):
    """How likely one label is, 0 to 1."""

    confidence: float


class Classification(Answered):
    """One text's answer. ``prediction`` is None where it ``abstained``, being less sure than was asked for."""

    index: int
    prediction: str | None
    confidence: float
    abstained: bool = False
    truncated: bool = False
    labels: dict[str, LabelConfidence]


class AnswerUsage(Answered):
    """Tokens that were read."""

    input_tokens: int
    context_tokens: int


class Answer(Answered):
    """The classifications of a request, in the order of its texts; iterating goes over them."""

    id: str
    object: str = "classification"
    context_id: str | None = None
    context_version: int | None = None
    model: str
    calibrated: bool | None = None
    classifications: tuple[Classification, ...]
    usage: AnswerUsage | None = None

    def __iter__(self) -> Iterator[Classification]:  # type: ignore[override]
        return iter(self.classifications)

    def __len__(self) -> int:
        return len(self.classifications)

    def __getitem__(self, index: int) -> Classification:
        return self.classifications[index]

    @property
    def predictions(self) -> list[str | None]:
        """The predicted label of each text."""
        return [one.prediction for one in self.classifications]
