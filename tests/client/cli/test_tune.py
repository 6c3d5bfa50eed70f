"""``contextune tune``, from a file to the report."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client.answers import AT, context, ended, job
from tests.client.cli.conftest import Command
from tests.client.command import SOURCES
from tests.client.standin import StandIn, says

INTERVALS = {f"{name}_ci95": [0.5, 1.0] for name in ("accuracy", "macro_f1", "nll", "ece", "brier")}
SCORE = {"accuracy": 0.75, "macro_f1": 0.7, "nll": 0.4, "ece": 0.1, "brier": 0.2, "n": 4, **INTERVALS}
REPORT = {
    "verdict": {"decision": "serve_above_threshold", "reason": "above 0.60 the error is at most 5%."},
    "icl": SCORE,
    "tuned": {**SCORE, "accuracy": 1.0},
    "difference": {"accuracy": 0.25, "accuracy_ci95": [-0.1, 0.5], "nll": -0.1, "nll_ci95": [-0.2, 0.1]},
    "served": "tuned",
    "encoder": "e5-small",
    "encoder_steps": 12,
    "measured_on": "folds",
    "notes": ["Only 4 examples were measured."],
    "confusion_matrix": [[1, 1], [0, 2]],
    "per_label": {name: {"precision": 1.0, "recall": 0.5, "f1": 0.66, "n": 2} for name in ("yes", "no")},
    "loss_curve": [2.0, 1.0, 0.5],
    "suspect_examples": [
        {"param": "/examples/1", "probability": 0.1, "prediction": "yes", "prediction_probability": 0.9}
    ],
    "harmful_examples": [{"param": "/examples/2", "gain": 0.05}],
    "thresholds": [
        {"target_precision": 0.995, "min_confidence": 0.9987, "coverage": 0.75, "answered": 3, "precision": 1.0,
         "precision_ci95": [0.4, 1.0]}
    ],
}  # fmt: skip
DRY_RUN: dict[str, Any] = {
    "object": "dry_run", "model": "tiny", "context_tokens": 40, "context_limit": 512, "total_steps": 6,
    "estimated_seconds": 12.3,
    "budgets": [
        {"max_seconds": 30.0, "estimated_seconds": 24.2, "encoder_steps": 0,
         "trials": [{"steps": 0, "context_examples": 4, "examples": 3, "prompts": 2}]},
        {"max_seconds": None, "estimated_seconds": 812.0, "encoder_steps": 12,
         "trials": [{"steps": 0, "context_examples": 4, "examples": 4, "prompts": 2},
                    {"steps": 6, "context_examples": 4, "examples": 4, "prompts": 2}]},
    ],
    "warnings": [{"code": "one_example_label", "message": "the label has one example", "param": "/examples/2/label"}],
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Support Intents.csv"
    path.write_text("utterance,intent\nis it?,yes\nno way,no\nnot at all,no\ncertainly,yes\n")
    return path


def answers(service: StandIn, **job_fields: Any) -> None:
    service.then(
        says(DRY_RUN), says({"context": context(status="queued"), "job": job()}, 202), says(ended(**job_fields)),
        says(context(report=REPORT)),
    )  # fmt: skip


def test_file_becomes_a_context_and_a_readable_report(service: StandIn, command: Command, file: Path) -> None:
    answers(service)
    said = command("tune", str(file), "--method", "auto", "--set", "steps=3", "--set", "head=false")
    assert said.status == 0
    planned, created, *_ = service.seen
    assert planned.query == {"dry_run": "true"}
    assert json.loads(created.body) == {
        "examples": [
            {"text": "is it?", "label": "yes"}, {"text": "no way", "label": "no"},
            {"text": "not at all", "label": "no"}, {"text": "certainly", "label": "yes"},
        ],
        "name": "Support-Intents",
        "hyperparameters": {"method": "auto", "steps": 3, "head": False},
    }  # fmt: skip
    for expected in (
        "intents@1 · succeeded · 2 labels · tiny",
        "Verdict: serve it above a min_confidence. Above 0.60 the error is at most 5%.",
        "What answers: the tuned context; its sentence encoder, e5-small, is tuned",
        "accuracy                 75.0% (50.0% to 100.0%)  100.0% (50.0% to 100.0%)",
        "Difference, on the same examples: +25.0% accuracy (95%: -10.0% to +50.0%)",
        "1 yes                       1  1",
        "\n  line 3: 'no way' (no) → 'yes' (90%)\n",
        "line 4: 'not at all' (no) (0.050 nats)",
        "           99.5%          0.9987       75%  100.0% (40.0% to 100.0%)",
        "Loss 2.000 █▃▁ 0.500",
        "• Only 4 examples were measured.",
    ):
        assert expected in said.out
    for expected in (
        f"4 examples with 2 labels in {file} (text: 'utterance', label: 'intent')",
        "Warning: the label has one example (line 4: 'not at all' (no))",
        'Try it: contextune classify intents "is it?"',
    ):
        assert expected in said.err


def test_label_that_was_not_measured_stands_in_no_row(service: StandIn, command: Command, file: Path) -> None:
    scores: dict[str, Any] = {
        "yes": {"precision": None, "recall": 0.0, "f1": 0.0, "n": 2}, "no": {"precision": 0.5, "recall": 1.0, "n": 2},
        "perhaps": {"precision": None, "recall": None, "f1": None, "n": 0},
    }  # fmt: skip
    report = {**REPORT, "per_label": scores, "confusion_matrix": None}
    service.then(says(DRY_RUN), says({"context": context(status="queued"), "job": job()}, 202), says(ended()),
                 says(context(report=report)))  # fmt: skip
    said = command("tune", str(file))
    assert "yes            -      0%  0%         2" in said.out
    assert "perhaps" not in said.out


@pytest.mark.parametrize(("given", "sent"), [("none", "none"), ("auto", "auto"), ("90", 90)])
def test_bound_is_seconds_or_auto_or_none(
    service: StandIn, command: Command, file: Path, given: str, sent: object
) -> None:
    service.then(says(DRY_RUN))
    command("tune", str(file), "--dry-run", "--max-seconds", given)
    assert json.loads(service.seen[0].body)["hyperparameters"] == {"max_seconds": sent}
    said = command("tune", str(file), "--max-seconds", "soon")
    assert (said.status, len(service.seen)) == (2, 1)
    assert "'soon' is no number of seconds, nor auto, nor none" in " ".join(said.err.replace("│", " ").split())


def test_json_is_one_envelope_and_nothing_else(service: StandIn, command: Command, file: Path) -> None:
    answers(service)
    said = command("tune", str(file), "--json")
    assert (said.data["id"], said.data["report"]["tuned"]["accuracy"], said.err) == ("ctx_1", 1.0, "")


def test_dry_run_stores_nothing(service: StandIn, command: Command, file: Path) -> None:
    service.then(says(DRY_RUN))
    said = command("tune", str(file), "--dry-run")
    assert said.out.splitlines() == [
        "40 tokens of 512, 6 steps in all, about 12 s on tiny",
        "",
        "max_seconds    seconds  examples read  steps of a prompt  steps of the encoder",
        "30            about 24              3                  0                     0",
        "none         about 812              4                  6                    12",
    ]
    assert len(service.seen) == 1


def test_dry_run_says_for_how_many_examples_labels_are_scored(service: StandIn, command: Command, file: Path) -> None:
    trials = [
        {"steps": 0, "context_examples": 24, "examples": 385, "prompts": 2, "scored_examples": scored}
        for scored in (0, None)
    ]
    budgets = [{**DRY_RUN["budgets"][0], "trials": [trial]} for trial in trials]
    service.then(says({**DRY_RUN, "budgets": budgets}))
    lines = command("tune", str(file), "--dry-run").out.splitlines()[3:]
    assert [line.split()[3:-2] for line in lines] == [["385", "(0", "scored)"], ["385"]]


def test_dry_run_of_a_method_without_a_bound_is_a_line(service: StandIn, command: Command, file: Path) -> None:
    service.then(says({**DRY_RUN, "budgets": []}))
    assert command("tune", str(file), "--dry-run").out == "40 tokens of 512, 6 steps in all, about 12 s on tiny\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [("texts.txt", "Where is it?\n\nIt rained.\n"), ("texts.csv", "utterance\nWhere is it?\nIt rained.\n")],
)
def test_texts_without_labels_are_of_a_file(
    service: StandIn, command: Command, file: Path, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    service.then(says(DRY_RUN))
    assert command("tune", str(file), "--calibration-texts", str(tmp_path / name), "--dry-run").status == 0
    assert json.loads(service.seen[0].body)["calibration_texts"] == ["Where is it?", "It rained."]


def test_job_is_not_waited_for_where_that_is_asked(service: StandIn, command: Command, file: Path) -> None:
    service.then(says(DRY_RUN), says({"context": context(status="queued"), "job": job()}, 202))
    said = command("tune", str(file), "--detach", "--name", "mine", "--metadata", "team=cards", "--metadata", "note=")
    assert said.out == "ctx_1 job_1\n"
    body = json.loads(service.seen[1].body)
    assert (body["name"], body["metadata"]) == ("mine", {"team": "cards", "note": ""})


def test_examples_are_added_to_a_context(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("text,label\nyes indeed,yes\n")
    service.then(says(DRY_RUN), says({"context": context(status="queued", version=2), "job": job()}, 202))
    assert command("tune", str(path), "--base", "intents@prod", "--detach").status == 0
    body = {"examples": [{"text": "yes indeed", "label": "yes"}], "base_context": "intents@prod"}
    assert json.loads(service.seen[1].body) == body


def test_examples_of_a_context_are_left_out_and_need_no_file(service: StandIn, command: Command) -> None:
    service.then(says(DRY_RUN), says({"context": context(status="queued", version=2), "job": job()}, 202))
    arguments = ("tune", "--base", "intents", "--remove-example", "/examples/3", "--remove-example", "/examples/0")
    said = command(*arguments, "--model", "larger", "--detach")
    assert (said.status, said.out) == (0, "ctx_1 job_1\n")
    assert "Warning: the label has one example (/examples/2/label)" in said.err
    body = {"base_context": "intents", "remove_examples": ["/examples/3", "/examples/0"], "model": "larger"}
    assert json.loads(service.seen[1].body) == body


def test_example_that_the_base_has_not_is_named_as_it_was_given(service: StandIn, command: Command) -> None:
    detail = "the base context has no such example; it has /examples/0 to /examples/7"
    problem = {"status": 422, "code": "invalid_request", "detail": detail, "param": "/remove_examples/1"}
    service.then(says(problem, 422))
    arguments = ("--remove-example", "/examples/0", "--remove-example", "/examples/99")
    said = command("tune", "--base", "intents", *arguments)
    assert (said.status, said.err) == (3, f"Error: --remove-example /examples/99: {detail}\n")


def test_labels_are_described_in_a_file_and_one_by_one(service: StandIn, command: Command, file: Path) -> None:
    described = file.parent / "labels.csv"
    described.write_text("label,description\nyes,agrees\n")
    warning = {"code": "one_example_label", "message": "the label has no example", "param": "/labels/1"}
    service.then(says({**DRY_RUN, "warnings": [warning]}))
    labels = ("--labels-file", str(described), "--labels", "maybe=cannot say = does not know")
    said = command("tune", str(file), *labels, "--dry-run")
    assert (said.status, said.err.splitlines()[-1]) == (0, "Warning: the label has no example ('maybe')")
    assert json.loads(service.seen[0].body)["labels"] == [
        {"name": "yes", "description": "agrees"}, {"name": "maybe", "description": "cannot say = does not know"},
        {"name": "no"},
    ]  # fmt: skip


def test_labels_of_the_base_stay(service: StandIn, command: Command) -> None:
    service.then(says(context()), says(DRY_RUN))
    assert command("tune", "--base", "intents", "--labels", "no=declines", "--dry-run").status == 0
    assert json.loads(service.seen[1].body)["labels"] == [{"name": "no", "description": "declines"}, {"name": "yes"}]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("FILE", "--remove-example", "/examples/1"),
        ("--base", "intents", "--remove-example", "3"),
        ("FILE", "--labels", "yes", "--labels", "yes=agrees"),
        ("FILE", "--labels", "=agrees"),
    ],
)
def test_arguments_that_do_not_fit_are_told(command: Command, file: Path, arguments: tuple[str, ...]) -> None:
    assert command("tune", *(str(file) if one == "FILE" else one for one in arguments)).status == 2


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("text,description\na,b\n", ": no column is called 'label' or 'name'; the columns are: text, description"),
        ("label,what,why\na,b,c\n", ": no column is called 'description'; the columns are: label, what, why"),
        ("label,description\nyes,a\nno,b\nyes,c\n", ", line 4: the label 'yes' stands here a second time"),
        ("label,description\n,b\n", ", line 2: the label is empty"),
        ("label,description\n", ": there is no label"),
    ],
)
def test_file_of_labels_that_is_wrong_is_told(command: Command, file: Path, content: str, fault: str) -> None:
    described = file.parent / "labels.csv"
    described.write_text(content)
    said = command("tune", str(file), "--labels-file", str(described))
    assert (said.status, said.err.splitlines()[-1]) == (3, f"Error: {described}{fault}")


def test_fault_that_the_service_finds_is_told_by_its_line(service: StandIn, command: Command, file: Path) -> None:
    detail = "/examples/2: the same text has another label elsewhere"
    problem = {"status": 422, "code": "contradicting_examples", "detail": detail, "param": "/examples/2"}
    service.then(says(problem, 422))
    said = command("tune", str(file))
    assert said.status == 3
    assert said.err.splitlines()[-1] == f"Error: {file}, line 4: the same text has another label elsewhere"


def test_column_that_is_not_there_is_told_by_its_option(command: Command, file: Path) -> None:
    said = command("tune", str(file), "--label-column", "label")
    expected = f"Error: {file}: there is no column 'label' for --label-column; the columns are: utterance, intent\n"
    assert (said.status, said.out, said.err) == (3, "", expected)


def test_fault_of_the_file_is_in_the_envelope(command: Command, tmp_path: Path) -> None:
    said = command("tune", str(tmp_path / "absent.csv"), "--json")
    assert (said.status, said.data["code"], said.err) == (3, "bad_source", "")
    assert said.data["message"].endswith("absent.csv: cannot be read: No such file or directory")


def test_job_that_fails_is_told(service: StandIn, command: Command, file: Path) -> None:
    answers(service, status="failed", error={"code": "out_of_memory", "message": "the model does not fit"})
    said = command("tune", str(file))
    assert said.status == 7
    assert said.err.splitlines()[-1] == "Error: the job job_1 has failed: the model does not fit [out_of_memory]"


def test_setting_without_a_value_is_a_wrong_argument(command: Command, file: Path) -> None:
    assert command("tune", str(file), "--set", "steps").status == 2


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command in a process of its own, and the other end of its terminal; it is ended with the block."""
    terminal, other = pty.openpty()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what is ignored here, a child goes on to ignore
    process = subprocess.Popen(
        [sys.executable, "-m", "contextune.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "TERM": "xterm"},
        stdin=other, stdout=other, stderr=other, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    os.close(other)
    try:
        yield process, terminal
    finally:
        process.kill()
        process.wait(30)
        os.close(terminal)


@pytest.mark.parametrize(("reply", "cancelled"), [("y\n", True), ("\n", False)])
def test_interrupt_on_a_terminal_asks_whether_to_cancel(
    service: StandIn, file: Path, reply: str, cancelled: bool
) -> None:
    service.then(says(DRY_RUN), says({"context": context(status="queued"), "job": job()}, 202))
    event = {"id": "1", "type": "metrics", "created_at": AT, "data": {"step": 1, "loss": 0.7}}
    service.always["/jobs/job_1"] = lambda _: says(job())
    service.always["/jobs/job_1/events"] = lambda _: says({"object": "list", "data": [event], "has_more": False})
    with on_a_terminal("tune", str(file)) as (process, terminal):
        read_until(terminal, "step 1/4 · loss 0.700".encode())
        process.send_signal(signal.SIGINT)
        read_until(terminal, b"Cancel the job?")
        service.then(says(job(status="cancelled")))
        os.write(terminal, reply.encode())
        said = read_until(terminal, b"is being cancelled" if cancelled else b"The job goes on")
        assert process.wait(30) == 130, said
    assert [one.path for one in service.seen] == (
        ["/contexts", "/contexts", "/jobs/job_1/cancel"] if cancelled else ["/contexts", "/contexts"]
    )


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What the command says up to and with ``wanted``."""
    said = b""
    while wanted not in said:
        assert select.select([terminal], [], [], 60)[0], said.decode()
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the end of a terminal
            raise AssertionError(said.decode()) from None
    return said
