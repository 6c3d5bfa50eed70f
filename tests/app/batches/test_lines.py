"""Files of texts as lines."""

import io

import pytest

from app.batches.lines import lines_of_csv
from app.errors import DomainError


@pytest.mark.parametrize("line", [1, 2, 900, 3_000])
def test_line_that_is_no_utf_8_is_named(line: int) -> None:
    lines = [b"text"] + [b"a text of some words"] * 3_000
    lines[line - 1] = b"\xff\xfe"
    with pytest.raises(DomainError, match=f"line {line} is not UTF-8"):
        lines_of_csv(io.BytesIO(b"\n".join(lines)), lambda _: None)
