"""From what clients of other services send to the text that is classified.

A string is the text; anything else that JSON can say is written as JSON. Images and calls of tools are refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

#: Names of types, such as `input_image`.
_TYPE_NAME: Final = re.compile(r"[a-z]+(_[a-z]+)*")


class Unreadable(ValueError):
    """A part of the input that is not text; the message names its type."""


def named_type(kind: object) -> str:
    """What a message says of a type that cannot be read: its name, unless that may be a text of a user's."""
    return f"type {kind!r}" if isinstance(kind, str) and _TYPE_NAME.fullmatch(kind) else "an unknown type"


def written(value: object) -> str:
    """``value`` as text: a string as it is, anything else as JSON in the order received."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def transcript(messages: Sequence[tuple[str, str]]) -> str:
    """The text of a conversation, (role, text) each: one message alone, or a line ``role: text`` for each message."""
    if len(messages) == 1:
        return messages[0][1]
    return "\n".join(f"{role}: {text}" for role, text in messages)


def joined_parts(content: object) -> str:
    """The text of a message's parts, a line each. Raises `Unreadable` for a part that is neither text nor JSON."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Unreadable("the content of a message must be text or a list of parts")
    return "\n".join(_part(part) for part in content)


def _part(part: object) -> str:
    match part:
        case {"type": "input_text" | "output_text", "text": str(text)}:
            return text
        case {"type": "input_json", **rest}:
            return written(rest.get("data"))
        case {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": kind}:
            raise Unreadable(f"a part of {named_type(kind)} cannot be read; send text")
    raise Unreadable("a part has no type")
