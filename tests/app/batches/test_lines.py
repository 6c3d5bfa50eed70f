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
