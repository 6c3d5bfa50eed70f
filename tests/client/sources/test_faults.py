"""Each format with each kind of fault: one line that says what and where."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contextune.errors import SourceError
from contextune.sources import Columns, examples_from

GUESSED = Columns()
Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"text": "where is my card?", "label": "card arrival"},
    {"text": "how do I add it, please?", "label": "card linking"},
    {"text": 'my "new" card', "label": "card arrival"},
]


def delimited(delimiter: str) -> Callable[[Path, Rows], None]:
    def cell(value: Any) -> str:
        return '"' + str(value or "").replace('"', '""') + '"'

    def write(path: Path, rows: Rows) -> None:
        lines = [delimiter.join(rows[0]), *(delimiter.join(cell(value) for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", "utf-8")

    return write


def jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def whole_json(path: Path, rows: Rows) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")


def excel(path: Path, rows: Rows) -> None:
    import openpyxl  # noqa: PLC0415 - an extra of the client

    workbook = openpyxl.Workbook()
    sheet: Any = workbook.active
    for cells in (list(rows[0]), *(list(row.values()) for row in rows)):
        sheet.append(cells)
    workbook.save(path)
    workbook.close()


FORMATS = {"csv": delimited(","), "tsv": delimited("\t"), "jsonl": jsonl, "json": whole_json, "xlsx": excel}
#: How each format says where its second row is.
SECOND = {"csv": "line 3", "tsv": "line 3", "jsonl": "line 2", "json": "entry 2", "xlsx": "row 3"}
every_format = pytest.mark.parametrize("kind", FORMATS)
every_text_format = pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])


def written(tmp_path: Path, kind: str, rows: Rows) -> Path:
    path = tmp_path / f"intents.{kind}"
    FORMATS[kind](path, rows)
    return path


def fault(path: Path, columns: Columns = GUESSED) -> str:
    """What is said of the file: one line that begins with its name."""
    with pytest.raises(SourceError) as caught:
        examples_from(path, columns)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    return said.removeprefix(str(path))


@every_format
def test_good_file_is_read(tmp_path: Path, kind: str) -> None:
    assert [example.body for example in examples_from(written(tmp_path, kind, ROWS))] == ROWS


@every_format
def test_missing_column(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, ROWS)
    assert fault(path, Columns(label="intent")) == ": there is no column 'intent'; the columns are: text, label"
    alone = written(tmp_path, kind, [{"text": row["text"]} for row in ROWS])
    assert fault(alone) == ": there is no label column; the columns are: text"


@every_format
@pytest.mark.parametrize("column", ["text", "label"])
@pytest.mark.parametrize("blank", ["", "  ", None])
def test_empty_cell(tmp_path: Path, kind: str, column: str, blank: str | None) -> None:
    path = written(tmp_path, kind, [ROWS[0], {**ROWS[1], column: blank}, ROWS[2]])
    assert fault(path) == f", {SECOND[kind]}: the {column} is empty"


@every_text_format
def test_wrong_encoding(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, [ROWS[0], {"text": "où est ma carte", "label": "card linking"}, ROWS[2]])
    path.write_bytes(path.read_text("utf-8").encode("latin-1"))
    said = fault(path)
    assert said.endswith("byte 0xf9 is not UTF-8; save the file as UTF-8 or name its encoding (such as cp1252)")
    assert said.startswith(", line 1:" if kind == "json" else f", {SECOND[kind]}:")


@every_format
def test_huge_file(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, ROWS)
    os.truncate(path, 1 << 30)
    assert fault(path) == " has 1 GiB; at most 64 MiB can be sent"


@every_format
def test_one_label(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, [{**row, "label": "card"} for row in ROWS])
    assert fault(path) == ": all 3 examples have the label 'card'; at least two different labels are needed"


@every_format
def test_empty_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"intents.{kind}"
    path.touch()
    assert fault(path) == " is empty"


@every_format
def test_file_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    assert fault(tmp_path / f"absent.{kind}") == ": cannot be read: No such file or directory"
    (tmp_path / f"folder.{kind}").mkdir()
    assert fault(tmp_path / f"folder.{kind}") == ": cannot be read: Is a directory"
    assert fault(tmp_path / kind) == ": cannot be read: No such file or directory"


@every_format
def test_long_text(tmp_path: Path, kind: str) -> None:
    text = "x" * (32_000 if kind == "xlsx" else 100_001)  # a cell of Excel cannot be too long
    path = written(tmp_path, kind, [ROWS[0], {**ROWS[1], "text": text}])
    if kind == "xlsx":
        assert len(examples_from(path)) == 2
    else:
        assert fault(path) == f", {SECOND[kind]}: the text has 100,001 bytes; at most 100,000 are allowed"


@every_format
def test_too_many_rows(tmp_path: Path, kind: str) -> None:
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(10_001)]
    assert "more than 10,000 examples; the service takes no more" in fault(written(tmp_path, kind, rows))


@every_text_format
def test_binary_file_with_the_ending_of_a_text(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"intents.{kind}"
    path.write_bytes(b"PK\x03\x04\0\0\0\0text,label\n")
    assert fault(path) == ", line 1: holds a NUL character; this is no text file"


def test_text_with_the_ending_of_a_workbook(tmp_path: Path) -> None:
    path = tmp_path / "intents.xlsx"
    path.write_text("text,label\na,b\n")
    assert fault(path).startswith(": not an Excel workbook (.xlsx) that can be read: ")


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("csv", 'text,label\n"never closed,yes\nmore,no\n', ", line 2: a quote is never closed"),
        ("csv", "text,label\na, b and c,yes\n", ", line 2: 3 cells under 2 columns; put quotes around"),
        ("csv", "text,text\na,yes\n", ", line 1: two columns are called 'text'"),
        ("csv", "text,label\n" + "x" * (5 << 20) + ",yes\n", ", line 2: longer than 4 MiB"),
        ("jsonl", '{"text": "a", "label": "b"}\n{"text": \n', ", line 2, column 9: not valid JSON"),
        ("jsonl", '{"text": "a", "label": "b"}\n["c", "d"]\n', ", line 2: not an object with a text and a label"),
        ("jsonl", '{"text": "a", "label": ["b", "c"]}\n', ", line 1: the label is a list; a text has one label"),
        ("jsonl", '{"text": {"a": 1}, "label": "b"}\n', ", line 1: the text is not text but an object"),
        ("json", '[\n  {"text": "a",\n}]', ", line 3, column 1: not valid JSON"),
        ("json", '{"texts": []}', ": neither a list of objects nor an object with the list `examples`"),
        ("json", "[" * 100_000, ", line 1: nested too deeply"),
        ("csv", 'text,label\n"' + "x\n" * 530_000 + '",yes\n', ", line 2: a cell has more than 1,048,576 characters"),
        ("csv", "said\nis it?\nno way\n", ": there is no label column; the columns are: said"),
        ("txt", "is it?\nno way\n", ": there is no label column; the columns are: text"),
        ("csv", "text,label\n", ": there is no example"),
        ("csv", "\n\n", " is empty"),
        ("docx", "text", ": the format 'docx' is not known; known are csv, tsv, jsonl, ndjson, json, xlsx, txt"),
    ],
)  # fmt: skip
def test_fault_of_one_format(tmp_path: Path, kind: str, content: str, said: str) -> None:
    path = tmp_path / f"intents.{kind}"
    path.write_text(content)
    assert fault(path).startswith(said)
