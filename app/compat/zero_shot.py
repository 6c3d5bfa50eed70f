"""A question to a base model as a plain context: instructions, then options with their descriptions, then the text.

The form is one of those that were measured, see benchmarks/README.md. Pure functions; knows no vendor and no bus.
"""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter, ValidationError

from app.compat.questions import Kind, Question, Unanswerable
from app.contract.plain import PlainContext, PlainLabel
from app.contract.texts import Characters, Text

#: Words for true and false: an answer to a question.
_OUTCOMES: Final = ("yes", "no")
_TEXT: Final[TypeAdapter[str]] = TypeAdapter(Text)
_CHARACTERS: Final[TypeAdapter[str]] = TypeAdapter(Characters)


def checked_text(text: str) -> str:
    """``text`` as it may be classified. Raises `Unanswerable` for one that is blank, too long, or no Unicode text."""
    return _checked(_TEXT, text, "the text")


def as_plain_context(question: Question, instructions: str) -> PlainContext:
    """What stands before the text: ``instructions`` for all questions, then the question's own, then its options.

    Raises `Unanswerable` for an option without a label, or texts that are too long or no Unicode text.
    """
    said = "\n".join(part for part in (instructions, question.instructions) if part.strip())
    names = _OUTCOMES if question.kind is Kind.PREDICATE else tuple(option.label.strip() for option in question.options)
    labels = [
        PlainLabel(
            name=_checked(_TEXT, name, "an option"),
            description=_checked(_TEXT, option.description, "a description") if option.description else None,
        )
        for name, option in zip(names, question.options, strict=True)
    ]
    return PlainContext(instructions=_checked(_CHARACTERS, said, "the instructions"), labels=tuple(labels))


def _checked(kind: TypeAdapter[str], text: str, what: str) -> str:
    try:
        return kind.validate_python(text)
    except ValidationError as error:
        raise Unanswerable(f"{what} {error.errors()[0]['msg']}") from None
