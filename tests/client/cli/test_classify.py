"""``contextune classify`` and ``contextune eval``."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from contextune.cli.figures import Judged, figures_of, wilson

from tests.client.answers import context
from tests.client.cli.conftest import Command
from tests.client.standin import StandIn, says


def answer(*confidences: float, least: float = 0.0) -> dict[str, Any]:
    """The answer to texts of which "yes" is so likely each."""

    def one(index: int, yes: float) -> dict[str, Any]:
        prediction, confidence = ("yes", yes) if yes >= 0.5 else ("no", 1 - yes)
        abstained = confidence < least
        return {
            "index": index, "prediction": None if abstained else prediction, "confidence": confidence,
            "abstained": abstained, "truncated": False,
            "labels": {"yes": {"confidence": yes}, "no": {"confidence": 1 - yes}},
        }  # fmt: skip

    return {
        "id": "cls_1", "model": "tiny", "context_id": "ctx_1", "context_version": 1,
        "classifications": [one(index, yes) for index, yes in enumerate(confidences)],
        "usage": {"input_tokens": 1, "context_tokens": 1},
    }  # fmt: skip


def inputs(service: StandIn) -> list[str]:
    return [text for one in service.seen if one.path == "/classify" for text in json.loads(one.body)["inputs"]]


def test_context_that_is_not_ready_names_the_command_that_waits(service: StandIn, command: Command) -> None:
    problem = {"title": "Not ready", "status": 409, "code": "context_not_ready", "detail": "job_1 has not ended yet"}
    service.then(says(problem, 409, retry_after="9"))
    said = command("classify", "intents", "hello")
    assert (said.status, said.out) == (8, "")
    assert said.err.endswith(" has not ended yet [409 context_not_ready]; `contextune jobs wait` waits for a job\n")


def test_piped_predictions_are_lines_with_tabs(service: StandIn, command: Command) -> None:
    service.then(says(answer(0.9, 0.2)))
    said = command("classify", "intents", "is it?", "surely\tnot\nno")
    assert said.out == "yes\t0.9000\tis it?\nno\t0.8000\tsurely not no\n"
    assert json.loads(service.seen[0].body)["context"] == "intents"


def test_predictions_as_csv_jsonl_and_json(service: StandIn, command: Command) -> None:
    service.then(*[says(answer(0.9, 0.4, least=0.7))] * 3)
    ask = ("classify", "intents@prod", "a, b", "c", "--min-confidence", "0.7", "--exact")
    assert command(*ask, "--csv").out == 'text,prediction,confidence\n"a, b",yes,0.900000\nc,,0.600000\n'
    first, second = (json.loads(line) for line in command(*ask, "--jsonl").out.splitlines())
    assert (first["text"], first["labels"]["no"], second["abstained"]) == ("a, b", pytest.approx(0.1), True)
    assert [one["prediction"] for one in command(*ask, "--json").data] == ["yes", None]
    assert {"min_confidence": 0.7, "exact": True}.items() <= json.loads(service.seen[0].body).items()


def test_texts_come_from_the_standard_input(
    service: StandIn, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dash in ([], ["-"]):
        service.then(says(answer(0.9, 0.2)))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\n\n  two\n")))
        assert command("classify", "intents", *dash).out.splitlines() == ["yes\t0.9000\tone", "no\t0.8000\ttwo"]
    assert inputs(service) == ["one", "  two"] * 2


def test_texts_come_from_a_file(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("id,message\n1,one\n2,two\n")
    service.then(says(answer(0.9, 0.2)))
    assert command("classify", "intents", str(path)).status == 0
    assert inputs(service) == ["one", "two"]


def test_examples_of_a_file_and_labels_stand_in_place_of_a_context(
    service: StandIn, command: Command, labelled: Path
) -> None:
    service.then(says(answer(0.9, 0.2)), says(answer(0.9)))
    assert command("classify", "--examples", str(labelled), "is it?", "not", "--model", "tiny").status == 0
    assert command("classify", "is it?", "--labels", "yes=it is = so", "--labels", "no").status == 0
    by_examples, by_labels = (json.loads(one.body) for one in service.seen)
    assert [one["label"] for one in by_examples["examples"]] == ["yes", "no", "yes", "no"]
    assert (by_examples["inputs"], by_examples["model"]) == (["is it?", "not"], "tiny")
    assert by_labels["labels"] == [{"name": "yes", "description": "it is = so"}, {"name": "no"}]
    assert "context" not in by_examples | by_labels


def test_example_that_is_refused_is_named_by_its_line(service: StandIn, command: Command, labelled: Path) -> None:
    detail = "/examples/2: contradicts another"
    problem = {"code": "contradicting_examples", "status": 422, "detail": detail, "param": "/examples/2"}
    service.then(says(problem, 422))
    said = command("classify", "--examples", str(labelled), "is it?")
    assert (said.status, said.err) == (3, f"Error: {labelled}, line 4: contradicts another\n")


def test_neither_a_context_nor_examples_is_a_wrong_argument(command: Command) -> None:
    assert command("classify").status == 2


def test_file_that_is_not_there_is_told_and_not_classified(service: StandIn, command: Command) -> None:
    said = command("classify", "intents", "absent.csv")
    assert (said.status, said.err) == (3, "Error: absent.csv: cannot be read: No such file or directory\n")
    assert service.seen == []


def test_hostile_text_cannot_write_to_the_terminal(service: StandIn, command: Command) -> None:
    service.then(says({"code": "invalid_request", "status": 422, "detail": "\x1b[2Jgone"}, 422))
    assert "\x1b" not in command("classify", "intents", "x").err


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [(404, "context_not_found", 4), (401, "unauthorized", 5), (403, "forbidden", 5), (409, "context_not_ready", 8),
     (422, "input_too_long", 3), (500, "internal", 6), (429, "overloaded", 6)],
)  # fmt: skip
def test_each_kind_of_failure_has_its_exit_status(
    service: StandIn, command: Command, status: int, code: str, exit_status: int
) -> None:
    problem = says(
        {"code": code, "status": status, "detail": "said so", "request_id": "req_1"}, status, retry_after="99"
    )
    service.then(problem, problem)
    said = command("classify", "intents", "x")
    assert (said.status, said.out) == (exit_status, "")
    assert said.err.startswith(f"Error: said so [{status} {code}] (request req_1)")
    error = command("classify", "intents", "x", "--json").data
    assert (error["exit_status"], error["code"], error["request_id"]) == (exit_status, code, "req_1")


def test_service_that_is_not_there_is_told_with_what_to_do(command: Command) -> None:
    said = command("--url", "http://127.0.0.1:9", "models")
    assert said.status == 6
    assert "http://127.0.0.1:9 does not answer" in said.err
    assert "contextune up" in said.err


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "test.csv"
    path.write_text("text,label\none,yes\ntwo,no\nthree,yes\nfour,no\n")
    return path


def test_context_is_evaluated(service: StandIn, command: Command, labelled: Path) -> None:
    service.then(says(context()), says(answer(0.9, 0.2, 0.1, 0.4)))
    said = command("eval", "intents", str(labelled))
    assert said.status == 0
    assert said.out.startswith("accuracy 75.0% (30.1% to 95.4%) on 4 texts\nmacro F1 73.3%, log loss ")
    assert "1 of 'yes' predicted as 'no'" in said.out
    assert "line 4: 'three': 'no' (90%) instead of 'yes'" in said.out


def test_accuracy_below_the_wanted_one_is_an_exit_status(service: StandIn, command: Command, labelled: Path) -> None:
    for least, status in (("0.7", 0), ("0.8", 9)):
        service.then(says(context()), says(answer(0.9, 0.2, 0.1, 0.4)))
        said = command("eval", "intents", str(labelled), "--min-accuracy", least, "--json")
        assert (said.status, json.loads(said.out)["data"]["accuracy"]) == (status, 0.75)


def test_label_that_the_context_does_not_have_is_told(service: StandIn, command: Command, labelled: Path) -> None:
    service.then(says(context(labels=["yes", "maybe"])))
    said = command("eval", "intents", str(labelled))
    expected = f"Error: {labelled}, line 3: intents has no label 'no'; its labels are: yes, maybe"
    assert (said.status, said.err.splitlines()[-1]) == (3, expected)


def judged(label: str, prediction: str | None, yes: float) -> Judged:
    return Judged("text", "line 2", label, prediction, max(yes, 1 - yes), {"yes": yes, "no": 1 - yes})


def test_figures_are_those_of_the_definitions() -> None:
    figures = figures_of([judged("yes", "yes", 0.8), judged("no", "yes", 0.6), judged("no", None, 0.5)])
    assert [figures.accuracy, figures.answered] == pytest.approx([1 / 3, 2 / 3])
    assert figures.per_label["yes"].precision == 0.5
    assert figures.macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert figures.nll == pytest.approx((0.22314 + 0.91629 + 0.69315) / 3, abs=1e-5)
    assert figures.ece == pytest.approx((0.2 + 0.6 + 0.5) / 3)
    assert figures.confusions == [{"label": "no", "prediction": "yes", "n": 1}]


def test_interval_is_wilsons() -> None:
    assert wilson(7, 8) == pytest.approx((0.5291, 0.9776), abs=1e-4)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0
