"""How an example is written down for the model. Knows texts, not tokens."""

from dataclasses import dataclass
from enum import IntEnum


class TokenType(IntEnum):
    """The role of a token in an example; the values are the reference's integers modulo 4, with label as 4."""

    SEPARATOR = 0
    INPUT_TEMPLATE = 1
    INPUT = 2
    OUTPUT_TEMPLATE = 3
    LABEL = 4


@dataclass(frozen=True)
class Template:
    r"""An example is written as `input + separator + output`; `between` stands between examples.

    Raises:
        ValueError: `{text}` is not exactly once in `input`, or `{label}` not exactly once in `output`.
    """

    input: str = "input: {text}"
    separator: str = "\n"
    output: str = "output: {label}"
    between: str = "\n\n"

    def __post_init__(self) -> None:
        if self.input.count("{text}") != 1:
            raise ValueError("The input part of a template must contain {text} exactly once.")
        if self.output.count("{label}") != 1:
            raise ValueError("The output part of a template must contain {label} exactly once.")

    def until_label(self, text: str) -> list[tuple[str, TokenType]]:
        """The typed pieces of an example up to its label, without the white space that belongs to the label."""
        before, after = self.input.split("{text}")
        return [
            (before, TokenType.INPUT_TEMPLATE),
            (text, TokenType.INPUT),
            (after, TokenType.INPUT_TEMPLATE),
            (self.separator, TokenType.SEPARATOR),
            (self._output_before.rstrip(), TokenType.OUTPUT_TEMPLATE),
        ]

    def label_text(self, label: str) -> str:
        """The label with the white space before it: models read " positive" as one word."""
        before = self._output_before
        return before[len(before.rstrip()) :] + label

    @property
    def before_label(self) -> str:
        """What stands before every label, whatever the text."""
        return self.separator + self._output_before.rstrip()

    @property
    def after_label(self) -> str:
        """What the output part holds after the label."""
        return self.output.split("{label}")[1]

    @property
    def following(self) -> tuple[str, ...]:
        """What stands between a label and the next text, piece by piece."""
        return self.after_label, self.between, self.input.split("{text}")[0]

    @property
    def _output_before(self) -> str:
        return self.output.split("{label}")[0]
