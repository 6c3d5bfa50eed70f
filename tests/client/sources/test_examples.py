"""What is read as examples, and in which columns."""

from pathlib import Path
from typing import Any

import openpyxl
import pytest
from contextune import Example
from contextune.errors import SourceError
from contextune.sources import Columns, examples_from
from contextune.sources.examples import examples_in
from contextune.sources.tables import read_table

GUESSED = Columns()
PAIRS = [("a", "yes"), ("b", "no")]


def bodies(source: Any, columns: Columns = GUESSED) -> list[tuple[str, str]]:
    return [(example.text, example.label) for example in examples_from(source, columns)]


class Polars:
    """As much of a table of polars as is used."""

    columns = ("label", "utterance")

    def iter_rows(self, *, named: bool) -> Any:
        assert named
        return ({"label": label, "utterance": text} for text, label in PAIRS)


class Pandas:
    """As much of a table of pandas as is used."""

    columns = ("text", "label")

    def __init__(self, *rows: Any) -> None:
        self._rows = rows or PAIRS

    def itertuples(self, *, index: bool, name: str | None) -> Any:
        assert (index, name) == (False, None)
        return iter(self._rows)


@pytest.mark.parametrize(
    "source",
    [
        PAIRS,
        iter(PAIRS),
        [list(pair) for pair in PAIRS],
        [{"text": text, "label": label} for text, label in PAIRS],
        [Example(text=text, label=label) for text, label in PAIRS],
        Polars(),
        Pandas(),
    ],
    ids=["pairs", "generator", "lists", "mappings", "models", "polars", "pandas"],
)
def test_whatever_has_texts_and_labels_is_read(source: Any) -> None:
    assert bodies(source) == PAIRS


def test_examples_that_do_not_stand_alone_may_have_one_label() -> None:
    assert len(examples_from([("a", "yes"), ("b", "yes")], alone=False)) == 2
    with pytest.raises(SourceError, match="all 2 examples have the label 'yes'"):
        examples_from([("a", "yes"), ("b", "yes")])


def test_labels_that_are_numbers_are_written_out() -> None:
    assert bodies([("a", 0), ("b", 1.0), ("c", True)]) == [("a", "0"), ("b", "1"), ("c", "True")]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([("a", "yes"), ("b", None)], "the rows, row 1: the label is empty"),
        (Pandas(("a", "yes"), ("b", float("nan"))), "the table, row 1: the label is empty"),
        (["a", "b"], "the rows, row 0: the label is empty"),
        ([("a", "yes", 3)], "the rows, row 0: tuple is neither a mapping nor a pair (text, label)"),
        (5, "int is neither a path, a table nor an iterable of rows"),
        ({"a": "yes"}, "dict is neither a path, a table nor an iterable of rows"),
    ],
)
def test_source_that_is_not_what_it_should_be(source: Any, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        examples_from(source)
    assert str(caught.value) == said


def read(tmp_path: Path, content: str | bytes, columns: Columns = GUESSED, **how: Any) -> tuple[Any, Columns]:
    path = tmp_path / "file.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    examples, settled = examples_in(read_table(path, **how), columns)
    return [(example.text, example.label) for example in examples], settled


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("label,text\nyes,a\nno,b\n", ("text", "label")),
        ("Intent,Utterance\nyes,a\nno,b\n", ("Utterance", "Intent")),
        ("nr,what was said,team\n1,a,yes\n2,b,no\n3,c,no\n", ("what was said", "team")),
        ("id,text,label\n1,a,yes\n2,b,no\n", ("text", "label")),
    ],
)
def test_columns_are_guessed(tmp_path: Path, content: str, columns: tuple[str, str]) -> None:
    pairs, settled = read(tmp_path, content)
    assert (settled.text, settled.label, settled.guessed) == (*columns, True)
    assert pairs[:2] == PAIRS


def test_named_columns_are_read(tmp_path: Path) -> None:
    pairs, settled = read(tmp_path, "text,label,x,y\nq,w,a,yes\nq,w,b,no\n", Columns("x", "y"))
    assert (pairs, settled.guessed) == (PAIRS, False)


def test_file_without_a_header_is_read_whole(tmp_path: Path) -> None:
    content = "my card is lost,lost\nwhere is it now,late\ncard stolen,lost\nnot here,late\n"
    pairs, settled = read(tmp_path, content)
    assert (len(pairs), settled.text, settled.label) == (4, "column 1", "column 2")


def test_sheet_without_a_header_is_read_whole(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    for cells in ((None, None), ("my card is lost", 1), ("where is it now", 2), ("card stolen", 1)):
        workbook.worksheets[0].append(cells)
    workbook.save(tmp_path / "file.xlsx")
    examples = examples_from(tmp_path / "file.xlsx")
    assert [(one.where, one.label) for one in examples] == [("row 2", "1"), ("row 3", "2"), ("row 4", "1")]


def test_header_that_comes_again_is_a_header(tmp_path: Path) -> None:
    assert read(tmp_path, "text,label\na,yes\nb,no\ntext,label\nc,no\n")[0][0] == PAIRS[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_common_delimiter_is_seen(tmp_path: Path, delimiter: str) -> None:
    assert read(tmp_path, f"text{delimiter}label\na{delimiter}yes\nb{delimiter}no\n")[0] == PAIRS


@pytest.mark.parametrize(
    "first",
    [
        '"Hello; please; help; me",cards',
        '"Hello; ""please""; help",cards',
        '"Hello;\nplease;\nhelp",cards',
        '5" pipe | blue | new,cards,pipes,cards',
    ],
)
def test_delimiters_in_quotes_do_not_count(tmp_path: Path, first: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"{first}\nwhere is it,cards\n")
    (_, *others) = read_table(path).rows
    assert [row.cells["column 2"] for row in others] == ["cards"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, encoding: str, separator: str) -> None:
    path = tmp_path / "file.jsonl"
    lines = f'{{"text": "a{separator}b", "label": "yes"}}\r\n{{"text": "c", "label": "no"}}\n'
    path.write_bytes(lines.encode(encoding))
    assert bodies(path) == [(f"a{separator}b", "yes"), ("c", "no")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encoding_is_seen_by_its_mark(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path, "text,label\nключ,yes\n卡,no\n".encode(encoding))[0] == [("ключ", "yes"), ("卡", "no")]


def test_named_encoding_is_used(tmp_path: Path) -> None:
    assert read(tmp_path, "text,label\nключ,yes\na,no\n".encode("cp1251"), encoding="cp1251")[0][0] == ("ключ", "yes")
    with pytest.raises(SourceError, match="there is no encoding 'klingon'"):
        read(tmp_path, "text,label\na,yes\n", encoding="klingon")


def test_line_is_the_one_where_a_row_begins(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text('text,label\n\n"two\nlines",yes\nb,no\n')
    assert [example.where for example in examples_from(path)] == ["line 3", "line 5"]
