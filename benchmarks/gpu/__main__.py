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
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu import report
from benchmarks.gpu.parts import Part, parts_for


def card_of(device: torch.device) -> str:
    """Name of the card, or of the kind of processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def run_parts(
    parts: Mapping[str, Part], device: torch.device, commit: str, out: Path, seconds: float = math.inf
) -> list[str]:
    """Names of the parts that were run; a part that fails is stored with its error and tried again the next time.

    None is begun after so many seconds.
    """
    until = time.perf_counter() + seconds
    stored: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    made_by = {"commit": commit, "card": card_of(device)}
    ran = []
    for name, part in parts.items():
        before = stored.get(name, {})
        if "figures" in before and {key: before.get(key) for key in made_by} == made_by:
            continue
        began = time.perf_counter()
        if began > until:
            break
        try:
            outcome: dict[str, Any] = {"figures": part(device)}
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
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--commit", default=None, help="where the tree is no git repository")
    parser.add_argument("--only", default="", help="parts whose name begins so")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/gpu.json"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no part after so many")
    parser.add_argument("--report", action="store_true", help="write the tables and run nothing")
    given = parser.parse_args()
    if given.report:
        report.write(given.out, Path(__file__).parents[1] / "README.md")
        return
    device = torch.device(given.device)
    chosen = {name: part for name, part in parts_for(device).items() if name.startswith(given.only)}
    run_parts(chosen, device, given.commit or _commit(), given.out, given.seconds)


if __name__ == "__main__":
    main()
