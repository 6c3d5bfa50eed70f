"""Files of texts as lines."""

import io
import json

import pytest

from app.batches.lines import lines_of_csv
from app.contract.batches import MAX_LINE_BYTES
from app.errors import DomainError


@pytest.mark.parametrize("line", [1, 2, 900, 3_000])
def test_line_that_is_no_utf_8_is_named(line: int) -> None:
    lines = [b"text"] + [b"a text of some words"] * 3_000
    lines[line - 1] = b"\xff\xfe"
    with pytest.raises(DomainError, match=f"line {line} is not UTF-8"):
        lines_of_csv(io.BytesIO(b"\n".join(lines)), lambda _: None)


def test_row_that_is_too_long_stays_one_line() -> None:
    """The worker reads a byte more than a line may have, and no further, to say so of that line alone."""
    cell = "\N{GRINNING FACE}" * 131_000
    written: list[bytes] = []
    count = lines_of_csv(io.BytesIO(f"text,id,label\n{cell},{cell},{cell}\nshort,2,\n".encode()), written.append)
    first, second, rest = b"".join(written).split(b"\n")
    assert (count, len(first), rest) == (2, MAX_LINE_BYTES + 1, b"")
    assert json.loads(second) == {"text": "short", "id": "2"}


@pytest.mark.parametrize("line_break", ["", "\n"])
def test_cell_that_no_text_may_have_is_one_line_among_others(line_break: str) -> None:
    """The worker says of that line alone that its text is too long, as of a JSON line."""
    text = "a" * 500_000 + line_break + "a" * 500_000
    written: list[bytes] = []
    count = lines_of_csv(io.BytesIO(f'text,id\nfine,1\n"{text}",2\nfine,3\n'.encode()), written.append)
    lines = [json.loads(line) for line in b"".join(written).splitlines()]
    assert (count, lines) == (
        3,
        [{"text": "fine", "id": "1"}, {"text": text, "id": "2"}, {"text": "fine", "id": "3"}],
    )


def test_cell_beyond_the_bound_of_a_line_is_refused_and_named() -> None:
    lines = b"x" * 1_000_000 + b"\n"
    with pytest.raises(DomainError, match="line 3 is not CSV"):
        lines_of_csv(io.BytesIO(b'text\n"' + lines * 2 + b'"\n'), lambda _: None)
