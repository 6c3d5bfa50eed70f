"""Run the parts that have no figures of this commit and card yet, and store each as it ends.

``python -m benchmarks.gpu --commit ID --out benchmarks/gpu.json [--only PREFIX] [--seconds N] [--device cpu]``; with
``--report`` it runs nothing and writes the tables of what is stored into the README.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from benchmarks.gpu import report
from benchmarks.gpu.parts import Part, parts_for

#: Of a whole run and of a part of it, by kind of device: all is done in less than eight minutes of a GPU.
_RUN_SECONDS: Final = {"cuda": 450.0}
_PART_SECONDS: Final = {"cuda": 180.0}


class OutOfTime(Exception):
    """A part was broken off."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the main thread where the block takes longer."""

    def break_off(*_: object) -> None:
        raise OutOfTime(f"not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, break_off)
    signal.setitimer(signal.ITIMER_REAL, seconds if seconds < math.inf else 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def card_of(device: torch.device) -> str:
    """Name of the card, or of the kind of processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def run_parts(
    parts: Mapping[str, Part], device: torch.device, commit: str, out: Path, seconds: float = math.inf
) -> list[str]:
    """Names of the parts that were run; a part that fails is stored with its error and tried again the next time.

    All end after so many seconds: the part that runs then is broken off, which is a failure too, and no other begins.
    """
    most = _PART_SECONDS.get(device.type, math.inf)
    until = time.perf_counter() + seconds
    made_by = _made_by(device, commit)
    ran = []
    for name in without_figures(parts, device, commit, out):
        stored = _stored(out)
        began = time.perf_counter()
        if began >= until:
            break
        try:
            with time_limit(min(most, until - began)):
                outcome: dict[str, Any] = {"figures": parts[name](device)}
        except Exception as error:  # noqa: BLE001 - the other parts can still be measured
            outcome = {"error": f"{type(error).__name__}: {error}"}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        stored[name] = made_by | versions | {"seconds": round(time.perf_counter() - began, 2)} | outcome
        _write(out, stored)
        ran.append(name)
        print(json.dumps({name: stored[name]}), flush=True)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return ran


def without_figures(parts: Mapping[str, Part], device: torch.device, commit: str, out: Path) -> list[str]:
    """Names of the parts that have no figures of this commit and card yet."""
    stored, made_by = _stored(out), _made_by(device, commit)
    done = {name for name, part in stored.items() if "figures" in part and made_by.items() <= part.items()}
    return [name for name in parts if name not in done]


def _made_by(device: torch.device, commit: str) -> dict[str, str]:
    return {"commit": commit, "card": card_of(device)}


def _stored(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    return found


def _write(out: Path, stored: dict[str, Any]) -> None:
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(json.dumps(stored, indent=1) + "\n")
    partial.replace(out)


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:  # no git
        return "unknown"
    return found.stdout.strip() or "unknown"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--commit", default=None, help="where the tree is no git repository")
    parser.add_argument("--only", default="", help="parts whose name begins so")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/gpu.json"))
    parser.add_argument("--seconds", type=float, default=None, help="end after so many: 450 on a GPU unless given")
    parser.add_argument("--report", action="store_true", help="write the tables and run nothing")
    given = parser.parse_args()
    if given.report:
        report.write(given.out, Path(__file__).parents[1] / "README.md")
        return
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu tries the script with tiny shapes")
    chosen = {name: part for name, part in parts_for(device).items() if name.startswith(given.only)}
    seconds = _RUN_SECONDS.get(device.type, math.inf) if given.seconds is None else given.seconds
    run_parts(chosen, device, given.commit or _commit(), given.out, seconds)
    left = without_figures(chosen, device, given.commit or _commit(), given.out)
    print(f"not done, run it again for: {', '.join(left)}" if left else "all parts have figures", flush=True)


if __name__ == "__main__":
    main()
