"""``contextune batch results`` and ``errors``: what is there is printed, and a file is written whole or not at all."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.client.answers import ended, job
from tests.client.cli.conftest import Command
from tests.client.standin import StandIn, says, streams

SUCCEEDED = ended(kind="batch", counts={"total": 1, "done": 1, "failed": 0}, report=None, expires_at=None)
RUNNING = job(kind="batch", counts={"total": 1500, "done": 125, "failed": 3}, report=None, expires_at=None)
LINE = json.dumps({"index": 0, "id": None, "prediction": "yes", "confidence": 0.9, "abstained": False, "labels": {}})


@pytest.mark.parametrize(
    "answer",
    [
        says({"status": 404, "code": "job_not_found", "detail": "no", "param": None, "request_id": "req_1"}, 404),
        streams(LINE + "\n", "no line\n"),
    ],
    ids=["at once", "in the middle"],
)
def test_failure_leaves_the_results_that_were_there(
    service: StandIn, command: Command, tmp_path: Path, answer: Any
) -> None:
    target = tmp_path / "results.jsonl"
    target.write_text("last week\n")
    service.then(says(SUCCEEDED), answer)
    assert command("batch", "results", "job_1", "-o", str(target)).status != 0
    assert target.read_text() == "last week\n"
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


def test_results_replace_those_that_were_there(service: StandIn, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "results.jsonl"
    target.write_text("last week\n" * 100)
    target.chmod(0o604)
    (tmp_path / "results.jsonl.partial").write_text("the user's own\n")
    link = tmp_path / "latest"
    link.symlink_to(target.name)
    service.then(says(SUCCEEDED), streams(LINE + "\n"))
    assert command("batch", "results", "job_1", "-o", str(link)).status == 0
    assert json.loads(target.read_text())["prediction"] == "yes"
    assert (link.is_symlink(), stat.S_IMODE(target.stat().st_mode)) == (True, 0o604)
    assert (tmp_path / "results.jsonl.partial").read_text() == "the user's own\n"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("status", ["running", "cancelled"])
def test_results_replace_nothing_before_all_are_there(
    service: StandIn, command: Command, tmp_path: Path, status: str
) -> None:
    target = tmp_path / "results.jsonl"
    target.write_text("last week\n")
    service.then(says({**RUNNING, "status": status}), streams(LINE + "\n"))
    said = command("batch", "results", "job_1", "-o", str(target))
    wrong = f"the batch job_1 is {status}: 128 of 1500 are done; {target} is not written"
    assert (said.status, said.err) == (8, f"Error: {wrong}\n")
    assert target.read_text() == "last week\n"


@pytest.mark.parametrize("verb", ["results", "errors"])
def test_lines_that_are_there_are_printed_with_how_many_are_done(service: StandIn, command: Command, verb: str) -> None:
    service.then(says(RUNNING), streams(LINE + "\n"))
    said = command("batch", verb, "job_1")
    assert (said.status, said.err) == (0, "128 of 1500 are done; the batch is running\n")
    assert json.loads(said.out)["index"] == 0


def test_new_file_of_results_has_the_mode_of_any_new_file(service: StandIn, command: Command, tmp_path: Path) -> None:
    plain, target = tmp_path / "plain", tmp_path / "results.jsonl"
    plain.touch()
    service.then(says(SUCCEEDED), streams(LINE + "\n"))
    assert command("batch", "results", "job_1", "-o", str(target)).status == 0
    assert target.stat().st_mode == plain.stat().st_mode


def test_file_that_cannot_be_written_is_named(service: StandIn, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "absent" / "results.jsonl"
    service.then(says(SUCCEEDED), streams(LINE + "\n"))
    said = command("batch", "results", "job_1", "-o", str(target))
    assert (said.status, said.err) == (3, f"Error: {target}: No such file or directory\n")


def test_file_below_another_is_named(service: StandIn, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "results.jsonl"
    service.then(says(SUCCEEDED), streams(LINE + "\n"))
    said = command("batch", "results", "job_1", "-o", str(target))
    assert (said.status, said.err) == (3, f"Error: {target}: Not a directory\n")


@pytest.mark.parametrize(("name", "options"), [("results.csv", ()), ("results.CSV", ()), ("results", ("--csv",))])
def test_csv_is_that_of_the_service(
    service: StandIn, command: Command, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    lines = [
        {"index": 0, "id": 'a "b"\n', "prediction": "où", "confidence": 0.8123456789012345, "abstained": False,
         "labels": {"où": {"confidence": 0.8123456789012345}, "no, way": {"confidence": 1e-07}}},
        {"index": 2, "id": None, "prediction": None, "confidence": 0.5, "abstained": True, "labels": {}},
    ]  # fmt: skip
    expected = (
        "index,id,prediction,confidence,abstained,labels\r\n"
        '0,"a ""b""\n",où,0.8123456789012345,false,"{""où"": 0.8123456789012345, ""no, way"": 1e-07}"\r\n'
        "2,,,0.5,true,{}\r\n"
    )
    target = tmp_path / name
    service.then(says(SUCCEEDED), streams("".join(json.dumps(line) + "\n" for line in lines)))
    assert command("batch", "results", "job_1", *options, "-o", str(target)).status == 0
    assert target.read_bytes() == expected.encode()


@pytest.mark.parametrize("options", [("-o", "results.jsonl"), ("--csv",)])
def test_envelope_of_results_is_nothing_else(service: StandIn, command: Command, options: tuple[str, ...]) -> None:
    said = command("batch", "results", "job_1", "--json", *options)
    assert (said.status, said.data["code"], service.seen) == (2, "wrong_arguments", [])
