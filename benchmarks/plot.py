"""The plot: cost of a tuning step against K, ours and PEFT's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.results import Cell

_SERIES = (("ours", "Contextune", "#1b6ca8"), ("peft", "PEFT", "#c8553d"))


def save_plot(cells: Sequence[Cell], path: Path) -> None:
    """Write an SVG with medians as lines and the spread as bars, on logarithmic axes."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    examples = [cell["examples"] for cell in cells]
    for key, name, colour in _SERIES:
        medians = [cell[key]["median"] for cell in cells]
        below = [cell[key]["median"] - cell[key]["min"] for cell in cells]
        above = [cell[key]["max"] - cell[key]["median"] for cell in cells]
        axes.errorbar(examples, medians, yerr=[below, above], marker="o", capsize=3, label=name, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="K, examples in the context, all trained on", ylabel="seconds a step")
    axes.set_xticks(examples, [str(k) for k in examples])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with rc_context({"svg.hashsalt": path.name}):  # else ids are drawn anew each time
        figure.savefig(path, metadata={"Date": None})
