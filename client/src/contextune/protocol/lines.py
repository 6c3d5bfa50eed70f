"""The lines of a body that comes in pieces."""

from __future__ import annotations


class Lines:
    """Lines that end with a line feed, and with nothing else: text may hold whatever else ends a line."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def take(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece, each without its line feed."""
        first, *others = piece.split(b"\n")
        self._begun.append(first)
        if not others:
            return []
        *whole, rest = [b"".join(self._begun), *others]
        self._begun = [rest]
        return whole

    def rest(self) -> bytes:
        """The last line where no line feed ended it; empty otherwise."""
        rest, self._begun = b"".join(self._begun), []
        return rest
