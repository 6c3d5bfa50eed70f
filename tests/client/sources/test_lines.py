"""Bodies of batches."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from contextune.errors import SourceError
from contextune.sources import Columns, lines_from

from tests.client.sources.test_examples import PAIRS, Pandas, Polars


def body(source: Any, **options: Any) -> tuple[str, bytes, bool]:
    upload = lines_from(source, **options)
    return upload.content_type, b"".join(upload.chunks()), upload.repeatable


def lines(source: Any, **options: Any) -> list[dict[str, str]]:
    kind, content, _ = body(source, **options)
    assert kind == "application/jsonl"
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("source", [PAIRS, Polars(), Pandas()], ids=["pairs", "polars", "pandas"])
def test_labelled_rows_become_lines(source: Any) -> None:
    assert lines(source) == [{"text": text, "label": label} for text, label in PAIRS]


def test_texts_and_ids_become_lines() -> None:
    assert lines(["a", "ключ"]) == [{"text": "a"}, {"text": "ключ"}]
    assert lines([{"text": "a", "id": 7}, {"text": "b", "label": None}, ("c", "yes")]) == [
        {"text": "a", "id": "7"},
        {"text": "b"},
        {"text": "c", "label": "yes"},
    ]


@pytest.mark.parametrize(("ending", "kind"), [("jsonl", "application/jsonl"), ("csv", "text/csv")])
def test_file_that_the_service_reads_goes_as_it_is(tmp_path: Path, ending: str, kind: str) -> None:
    path = tmp_path / f"texts.{ending}"
    path.write_bytes(b"whatever\n" * 50_000)
    assert body(path) == (kind, path.read_bytes(), True)
    assert body(str(path))[1] == path.read_bytes()


def test_other_file_becomes_lines(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text("id\ttext\tlabel\n7\ta\tyes\n8\tb\t\n")
    assert lines(path) == [{"text": "a", "id": "7", "label": "yes"}, {"text": "b", "id": "8"}]


def test_named_columns_are_taken_out_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("title,body\nx,a\ny,b\n")
    assert lines(path, columns=Columns(text="body")) == [{"text": "a"}, {"text": "b"}]


def test_binary_file_goes_as_it_is_and_again_from_its_start() -> None:
    upload = lines_from(io.BytesIO(b'{"text": "a"}\n'))
    assert [b"".join(upload.chunks()) for _ in range(2)] == [b'{"text": "a"}\n'] * 2
    assert upload.repeatable
    assert lines_from(io.BytesIO(b"text\na\n"), content_type="text/csv").content_type == "text/csv"


def test_text_file_is_refused() -> None:
    with pytest.raises(SourceError, match="binary mode"):
        lines_from(io.StringIO("a"))


def test_large_source_is_not_held_in_memory() -> None:
    chunks = lines_from({"text": "x" * 1000} for _ in range(10_000)).chunks()
    assert len(next(chunks)) < 100_000


def test_row_without_a_text_is_told() -> None:
    with pytest.raises(SourceError, match="the rows, row 1: the text is empty"):
        body(["a", " "])
