"""The script for GPUs, on the CPU with tiny shapes."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import report
from benchmarks.gpu.__main__ import card_of, main, run_parts, without_figures
from benchmarks.gpu.parts import parts_for
from tests.gpu.conftest import refuse_absent

# PEFT reads an attribute that transformers has deprecated; peers name the cache as transformers 5.17 does.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.past_key_values:FutureWarning"),
]

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


def test_every_part_runs_and_is_skipped_once_it_has_figures(tmp_path: Path) -> None:
    """But for the whole service, which takes a minute: `python -m benchmarks.gpu --device cpu --only service`."""
    out, parts = tmp_path / "gpu.json", parts_for(CPU)
    del parts["service"]
    assert run_parts(parts, CPU, "abc", out) == list(parts)
    stored = json.loads(out.read_text())
    assert [name for name in parts if "error" in stored[name]] == []
    assert run_parts(parts, CPU, "abc", out) == []
    exact = stored["agreement/tiny/float32"]["figures"]
    assert max(exact.values()) < 1e-3
    asked = stored["queries/tiny/float32"]["figures"]["3x6"]
    assert max(asked["plain_differs"], asked["peft_differs"]) < 1e-4
    assert max(stored["kernels/float32"]["figures"].values()) < 1e-4
    assert max(stored["kernels/bfloat16"]["figures"].values()) < 2e-2
    stored["where/tiny/float32"] |= {"error": "RuntimeError: no memory\nmore"}
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures of a GPU -->\nold\n<!-- end of figures of a GPU -->\nafter\n")
    out.write_text(json.dumps(stored))
    report.write(out, readme)
    lines = readme.read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    assert f"### {card_of(CPU)}, commit abc, torch {torch.__version__}" in lines
    assert "where/tiny/float32 failed: RuntimeError: no memory" in lines
    assert sum(line.startswith("| 3 | 6 |") for line in lines) == 2  # queries in float32 and bfloat16


def test_part_that_fails_is_stored_with_its_error_and_tried_again(tmp_path: Path) -> None:
    def fail(_: torch.device) -> dict[str, Any]:
        raise RuntimeError("no memory")

    out = tmp_path / "gpu.json"
    assert run_parts({"a": fail, "b": lambda _: {"x": 1}}, CPU, "abc", out) == ["a", "b"]
    assert json.loads(out.read_text())["a"]["error"] == "RuntimeError: no memory"
    assert run_parts({"a": lambda _: {"x": 2}, "b": fail}, CPU, "abc", out) == ["a"]


def test_another_commit_is_measured_anew(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert run_parts({"a": lambda _: {"x": 1}}, CPU, "abc", out) == ["a"]
    assert run_parts({"a": lambda _: {"x": 1}}, CPU, "def", out) == ["a"]


def test_run_ends_in_time_and_goes_on_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that runs too long, or beyond the end of the run, is broken off wherever it is; what is left is named."""

    def endless(_: torch.device) -> dict[str, Any]:
        time.sleep(60)
        return {}

    out, parts = tmp_path / "gpu.json", {"a": endless, "b": lambda _: {"x": 2}, "c": lambda _: {"x": 3}}
    assert run_parts(parts, CPU, "abc", out, seconds=0.2) == ["a"]
    assert json.loads(out.read_text())["a"]["error"].startswith("OutOfTime: not done within")
    assert without_figures(parts, CPU, "abc", out) == ["a", "b", "c"]
    monkeypatch.setattr("benchmarks.gpu.__main__._PART_SECONDS", {"cpu": 1.0})
    assert run_parts(parts, CPU, "abc", out) == ["a", "b", "c"]
    assert without_figures(parts, CPU, "abc", out) == ["a"]
    assert run_parts(parts | {"a": lambda _: {"x": 1}}, CPU, "abc", out) == ["a"]
    assert without_figures(parts, CPU, "abc", out) == []


def test_machine_without_a_gpu_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu"])
    with pytest.raises(SystemExit):
        main()
    assert "there is no GPU here; --device cpu tries the script" in capsys.readouterr().err
    with pytest.raises(pytest.UsageError, match="no cuda:0 here; --device cpu"):
        refuse_absent("cuda:0")
    refuse_absent("cpu")


def test_what_a_machine_without_a_network_is_brought_is_pinned() -> None:
    pins = (ROOT / "constraints" / "cpu.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in pins}
    assert set((ROOT / "benchmarks" / "gpu" / "requirements.txt").read_text().split()) <= pinned
