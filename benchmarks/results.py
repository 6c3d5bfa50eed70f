"""The results file: one JSON object with what was run on and, cell by cell, what was measured.

A cell is written as soon as it is measured, so that a run that was broken off goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.machine import processor

Cell = dict[str, Any]

#: How long other processes are watched before a cell (seconds).
_LOOK_SECONDS: Final = 1.0
#: Share of all cores above which a cell is not to be trusted: threads that wait for each other multiply the harm.
BUSY: Final = 0.05


class OtherRunError(Exception):
    """The file holds results of another machine, other versions or other settings."""


class Results:
    """Results in the file at `path`; `run` says what they belong to.

    Raises:
        OtherRunError: the file is of another run, and `fresh` is not given to start anew.
    """

    def __init__(self, path: Path, run: dict[str, Any], *, fresh: bool) -> None:
        self._path = path
        self.run: dict[str, Any] = json.loads(json.dumps(run))
        self.cells: dict[str, Cell] = {}
        if path.exists() and not fresh:
            stored = json.loads(path.read_text())
            if stored["run"] != self.run:
                raise OtherRunError(f"{path} holds results of another machine, version or size of run")
            self.cells = stored["cells"]

    def cell(self, name: str, measure: Callable[[], Cell]) -> Cell:
        """The cell of this name, measured now unless it is there already."""
        if name not in self.cells:
            print(f"measuring {name}", flush=True)
            busy = psutil.cpu_percent(interval=_LOOK_SECONDS)  # nothing of ours computes between cells
            self.cells[name] = {**measure(), "others_busy": busy / 100, "processor": processor()}
            self._write()
        return self.cells[name]

    def named(self, kind: str) -> list[Cell]:
        """The cells whose name begins with `kind` and a slash, in the order of their measurement."""
        return [cell for name, cell in self.cells.items() if name.startswith(f"{kind}/")]

    def disturbed(self) -> list[str]:
        """Names of the cells before which other processes were at work."""
        return [name for name, cell in self.cells.items() if cell["others_busy"] > BUSY]

    def by_processor(self) -> dict[str, list[str]]:
        """Names of the cells by the processor that they were measured on."""
        found: dict[str, list[str]] = {}
        for name, cell in self.cells.items():
            found.setdefault(cell["processor"], []).append(name)
        return found

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps({"run": self.run, "cells": self.cells}, indent=1) + "\n")
        partial.replace(self._path)
