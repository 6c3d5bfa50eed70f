"""Faults of files on the command line: one line that says what and where, status 3, and nothing is sent."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.cli.conftest import Command
from tests.client.sources.test_faults import FORMATS, ROWS, SECOND, written
from tests.client.standin import StandIn, streams


def without_a_label(folder: Path, kind: str) -> Path:
    return written(folder, kind, [{"text": row["text"]} for row in ROWS])


def with_an_empty_cell(folder: Path, kind: str) -> Path:
    return written(folder, kind, [ROWS[0], {**ROWS[1], "label": ""}, ROWS[2]])


def with_one_label(folder: Path, kind: str) -> Path:
    return written(folder, kind, [{**row, "label": "card"} for row in ROWS])


def in_another_encoding(folder: Path, kind: str) -> Path:
    """A workbook has no encoding: one that was written as text, in latin-1, stands for it."""
    path = written(folder, "csv" if kind == "xlsx" else kind, [ROWS[0], {**ROWS[1], "text": "où"}, ROWS[2]])
    path.write_bytes(path.read_text("utf-8").encode("latin-1"))
    return path.rename(path.with_suffix(f".{kind}"))


def of_a_gigabyte(folder: Path, kind: str) -> Path:
    path = written(folder, kind, ROWS)
    os.truncate(path, 1 << 30)
    return path


def said_of(fault: Any, kind: str) -> str:
    line = "line 1" if kind == "json" else SECOND[kind]
    return {
        without_a_label: ": there is no label column; the columns are: text",
        with_an_empty_cell: f", {SECOND[kind]}: the label is empty",
        with_one_label: ": all 3 examples have the label 'card'; at least two different labels are needed",
        in_another_encoding: ": not an Excel workbook (.xlsx) that can be read: File is not a zip file"
        if kind == "xlsx"
        else f", {line}: byte 0xf9 is not UTF-8; save the file as UTF-8 or name its encoding (such as cp1252)",
        of_a_gigabyte: " has 1 GiB; at most 64 MiB can be sent",
    }[fault]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "fault", [without_a_label, with_an_empty_cell, with_one_label, in_another_encoding, of_a_gigabyte]
)
def test_each_format_with_each_fault(
    service: StandIn, command: Command, tmp_path: Path, fault: Callable[[Path, str], Path], kind: str
) -> None:
    path = fault(tmp_path, kind)
    said = command("tune", str(path))
    assert (said.status, said.out) == (3, "")
    assert said.err == f"Error: {path}{said_of(fault, kind)}\n"
    assert service.seen == []


@pytest.mark.parametrize("arguments", [("tune",), ("nonsense",), ("contexts", "delete", "intents"), ("jobs", "show")])
def test_wrong_arguments_are_told_in_the_envelope(command: Command, arguments: tuple[str, ...]) -> None:
    said = command(*arguments, "--json")
    assert (said.status, said.data["code"], said.data["exit_status"]) == (2, "wrong_arguments", 2)


def test_file_that_cannot_be_written_is_told(service: StandIn, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "absent" / "a.zip"
    service.then(streams("PK", media_type="application/zip"), streams("PK", media_type="application/zip"))
    said = command("export", "intents", str(target))
    assert (said.status, said.err) == (3, f"Error: {target}: No such file or directory\n")
    assert command("export", "intents", str(target), "--json").data["code"] == "bad_source"


def test_lines_of_text_have_the_same_faults(
    service: StandIn, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes("ou\noù\n".encode("latin-1"))
    wrong = "line 2: byte 0xf9 is not UTF-8; save the file as UTF-8 or name its encoding (such as cp1252)"
    said = command("classify", "intents", str(path))
    assert (said.status, said.err) == (3, f"Error: {path}, {wrong}\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    said = command("classify", "intents")
    assert (said.status, said.err) == (3, f"Error: the standard input, {wrong}\n")
    os.truncate(path, 1 << 30)
    assert command("classify", "intents", str(path)).err == f"Error: {path} has 1 GiB; at most 64 MiB can be sent\n"
    assert service.seen == []


@pytest.mark.parametrize("option", [("--max-seconds", "inf"), ("--set", "max_seconds=Infinity")])
def test_number_that_cannot_be_sent_is_named(
    service: StandIn, command: Command, tmp_path: Path, option: tuple[str, str]
) -> None:
    said = command("tune", str(written(tmp_path, "csv", ROWS)), *option)
    assert (said.status, service.seen) == (3, [])
    wrong = "Error: /hyperparameters/max_seconds: inf is no number that can be sent"
    assert said.err.splitlines()[-1] == wrong
