"""From what clients of other services send to the text that is classified.

A string is the text; anything else that JSON can say is written as JSON. Images and calls of tools are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence


class Unreadable(ValueError):
    """A part of the input that is not text; the message names its type."""


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
        case {"type": str(kind)}:
            raise Unreadable(f"a part of type {kind!r} cannot be read; send text")
    raise Unreadable("a part has no type")
