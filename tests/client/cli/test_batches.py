"""``contextune batch``: any file that `tune` reads becomes lines of texts."""

import json
from pathlib import Path
from typing import Any

import pytest
from contextune.sources import Columns
from contextune.sources.lines import FileLines
from contextune.sources.tables import read_table

from tests.client.answers import context, ended, job
from tests.client.cli.conftest import Command
from tests.client.cli.test_tune import REPORT
from tests.client.standin import Seen, StandIn, says

QUEUED = job(kind="batch", counts={"total": 2, "done": 0, "failed": 0}, report=None, expires_at=None)
FORBIDDEN = {"status": 403, "code": "permission_denied", "detail": "no", "param": None, "request_id": "req_1"}


def lines(seen: Seen) -> list[dict[str, str]]:
    assert (seen.path, seen.headers["content-type"]) == ("/batches", "application/jsonl")
    return [json.loads(line) for line in seen.body.decode().split("\n") if line]


def sent(service: StandIn, command: Command, path: Path, *options: str) -> tuple[list[dict[str, str]], str]:
    """The lines that are sent of a file, and what is said of it."""
    service.then(says(QUEUED, 202))
    said = command("batch", "create", "intents", str(path), "--detach", *options)
    assert said.status == 0, said.err
    (seen,) = service.seen
    return lines(seen), said.err.replace(str(path), "FILE")


LABELLED = [{"text": "is it?", "label": "1"}, {"text": "no; way", "label": "0"}]


@pytest.mark.parametrize(
    ("name", "content", "took"),
    [
        ("a.csv", "text,label\nis it?,1\nno; way,0\n", "(text: 'text', label: 'label', no id column)"),
        ("a.csv", 'text;label\nis it?;1\n"no; way";0\n', "(text: 'text', label: 'label', no id column)"),
        ("a.csv", "label|said\n1|is it?\n0|no; way\n", "(text: 'said', label: 'label', no id column)"),
        (
            "a.jsonl",
            '{"message": "is it?", "label": 1, "more": []}\n{"message": "no; way", "label": 0}\n',
            "(text: 'message', label: 'label', no id column)",
        ),
        (
            "a.json",
            '[{"text": "is it?", "label": 1}, {"text": "no; way", "label": 0}]',
            "(text: 'text', label: 'label', no id column)",
        ),
    ],
)
def test_columns_are_found_and_told(
    service: StandIn, command: Command, tmp_path: Path, name: str, content: str, took: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    found, said = sent(service, command, path)
    assert found == LABELLED
    assert said.startswith(f"2 texts with 2 labels in FILE {took}\n")


def test_file_in_the_form_of_the_service_keeps_every_line(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    content = [{"text": "a\u2028b", "id": "1"}, {"text": ""}, {"text": "x" * 100_001, "id": "3"}, {"text": "\ud800"}]
    path.write_text("\n".join(json.dumps(line) for line in content))
    found, said = sent(service, command, path)
    assert found == content
    assert said.startswith("4 texts in FILE (text: 'text', id: 'id')\ntext\n")


def test_ids_that_are_empty_are_left_out(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text,label\n7,a,yes\n,b,\n")
    found, said = sent(service, command, path)
    assert found == [{"text": "a", "id": "7", "label": "yes"}, {"text": "b"}]
    assert said.startswith("2 texts with 1 labels in FILE (text: 'text', label: 'label', id: 'id')\n")


@pytest.mark.parametrize(
    ("head", "options", "column"),
    [
        ("ticket_id,text,score", (), "ticket_id"),
        ("Ticket_ID,text,score", (), "Ticket_ID"),
        ("ticket_id,text,id", (), "id"),
        ("ticket_id,text,user_id", (), None),
        ("ticket_id,text,user_id", ("--id-column", "user_id"), "user_id"),
        ("number,text,score", (), None),
        ("number,text,score", ("--id-column", "number"), "number"),
    ],
)
def test_id_is_found_or_named(
    service: StandIn, command: Command, tmp_path: Path, head: str, options: tuple[str, ...], column: str | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{head}\n7,a,8\n")
    (line,), said = sent(service, command, path, *options)
    assert line == {"text": "a", **({"id": "78"[head.split(",").index(column) // 2]} if column else {})}
    told = f"id: {column!r}" if column else "no id column"
    assert said.startswith(f"1 texts in FILE (text: 'text', {told})\n")


def test_column_of_labels_is_no_id(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,team_id\na,yes\n")
    found, _ = sent(service, command, path, "--label-column", "team_id")
    assert found == [{"text": "a", "label": "yes"}]


def test_file_of_lines_is_sent_and_its_blank_lines_are_not(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(" is it?\n\nno, way\n")
    found, said = sent(service, command, path)
    assert found == [{"text": " is it?"}, {"text": "no, way"}]
    assert said.startswith("2 texts in FILE (text: 'text', no id column)\n")


def test_cell_that_is_far_too_long_is_sent_for_the_service_to_answer(
    service: StandIn, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text\n{'x' * 200_000}\n")
    found, _ = sent(service, command, path)
    assert len(found[0]["text"]) == 200_000


@pytest.mark.parametrize(("options", "truncate"), [((), "END"), (("--truncate", "none"), "NONE")])
def test_what_is_cut_of_a_long_text_is_as_in_classify(
    service: StandIn, command: Command, tmp_path: Path, options: tuple[str, ...], truncate: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\n")
    sent(service, command, path, *options)
    assert service.seen[0].query["truncate"] == truncate


def test_named_columns_format_and_encoding_are_read(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_bytes("title;body;team\nx;o\u00f9;yes\n".encode("cp1252"))
    options = ("--format", "csv", "--encoding", "cp1252", "--text-column", "body", "--label-column", "team")
    found, said = sent(service, command, path, *options)
    assert found == [{"text": "o\u00f9", "label": "yes"}]
    preview = "1 texts with 1 labels in FILE (text: 'body', label: 'team', no id column)"
    assert said == f"{preview}\n\nRead the results: contextune batch results job_1\n"


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        (says(context(labels=["yes", "no"])), "yes"),
        (says(context(labels=["other"])), None),
        (says(FORBIDDEN, 403), None),
    ],
    ids=["of the context", "of something else", "not to be known"],
)
def test_guessed_label_is_kept_if_the_context_has_it(
    service: StandIn, command: Command, tmp_path: Path, answer: Any, label: str | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,type\nis it?,yes\n")
    service.then(answer, says(QUEUED, 202))
    said = command("batch", "create", "intents", str(path), "--detach")
    assert service.seen[0].path == "/contexts/intents"
    assert lines(service.seen[1]) == [{"text": "is it?", **({"label": label} if label else {})}]
    assert ("label: 'type'" in said.err) is bool(label)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("text\n", (), ": there is no text"),
        ("a,b\n1,2\n", ("--text-column", "c"), ": there is no column 'c' for --text-column; the columns are: a, b"),
        (
            "text,label\na,b,c\n",
            (),
            ", line 2: 3 cells under 2 columns; put quotes around a text that holds a delimiter",
        ),
    ],
)
def test_fault_is_told_before_anything_is_sent(
    service: StandIn, command: Command, tmp_path: Path, content: str, options: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    ended = command("batch", "create", "intents", str(path), *options)
    assert (ended.status, ended.err, service.seen) == (3, f"Error: {path}{said}\n", [])


def test_json_has_no_preview(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\na\n")
    assert sent(service, command, path, "--json")[1] == ""


def test_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + f"{'x' * 1000}\n" * 10_000 + "a,b\n")
    table = read_table(path)
    columns, found = FileLines(lambda: table, Columns()).read()
    assert (columns.text, len(next(found).text)) == ("text", 1000)
    assert len(next(FileLines(lambda: read_table(path), Columns()).chunks())) < 100_000


def test_report_of_a_batch_is_printed_with_a_key_that_may_classify_alone(service: StandIn, command: Command) -> None:
    """The context is not asked for: its labels stand in the report."""
    counts = {"total": 2, "done": 2, "failed": 0}
    service.then(says(ended(kind="batch", counts=counts, report=REPORT, expires_at=None)))
    said = command("batch", "show", "job_1")
    assert said.status == 0, said.err
    assert "true label, predicted as" in said.out
    assert [seen.path for seen in service.seen] == ["/batches/job_1"]
