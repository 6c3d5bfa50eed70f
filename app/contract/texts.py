"""Texts and labels as users give them, and what is refused in them."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Discriminator, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from app.contract.names import ErrorCode
from app.contract.payload import Payload

#: Inputs of one request to classify, at most.
MAX_INPUTS: Final = 1_024
MAX_TEXT_BYTES: Final = 100_000
MAX_LABEL_BYTES: Final = 1_000
#: Unicode's categories of characters that show nothing: control and format characters, and separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


def checked_characters(value: str) -> str:
    """``value``. Raises PydanticCustomError where it holds what no text may."""
    if "\0" in value:
        raise PydanticCustomError(ErrorCode.TEXT_INVALID, "must not contain NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(ErrorCode.TEXT_INVALID, "must not contain lone surrogates") from None
    return value


def _checked_text(value: str) -> str:
    if all(unicodedata.category(character) in _UNSEEN for character in value):
        raise PydanticCustomError(ErrorCode.TEXT_EMPTY, "must not be empty or blank")
    return _at_most(value, MAX_TEXT_BYTES)


def _at_most(value: str, limit: int) -> str:
    size = len(value.encode())
    if size > limit:
        raise PydanticCustomError(
            ErrorCode.TEXT_TOO_LONG, "has {size} bytes; at most {limit} are allowed", {"size": size, "limit": limit}
        )
    return value


def _checked_label(value: str) -> str:
    if value != value.strip():
        raise PydanticCustomError(ErrorCode.TEXT_INVALID, "a label must not begin or end with white space")
    return _at_most(value, MAX_LABEL_BYTES)


def _single(value: Any) -> Any:
    if isinstance(value, list | tuple):
        raise PydanticCustomError(
            ErrorCode.MULTI_LABEL_UNSUPPORTED, "an example has one label; a list of labels is not supported"
        )
    return value


Characters = Annotated[str, AfterValidator(checked_characters)]
Text = Annotated[Characters, AfterValidator(_checked_text)]
Label = Annotated[Text, AfterValidator(_checked_label), BeforeValidator(_single)]


def _not_like_an_id(value: str) -> str:
    if value.startswith("ctx_"):
        raise PydanticCustomError(ErrorCode.INVALID_REQUEST, "a name must not begin with ctx_, as ids do")
    return value


ContextName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"), AfterValidator(_not_like_an_id)
]


class DescribedLabel(Payload):
    """A label, and in ``description`` what the texts that have it are about."""

    name: Label
    description: Text | None = None


def _label_form(value: Any) -> str:
    return "described" if isinstance(value, dict | DescribedLabel) else "name"


#: A label by its name, or with its description.
LabelOrName = Annotated[
    Annotated[Label, Tag("name")] | Annotated[DescribedLabel, Tag("described")], Discriminator(_label_form)
]
