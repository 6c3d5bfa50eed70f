"""Two plots: accuracy against examples a class on each data set, and against the seconds that learning took."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.accuracy.cells import Cell, of_seeds
from benchmarks.accuracy.protocol import ENGLISH, SHOTS, SHOTS_OF_77

#: Method, its name in the legend, colour and line.
_SERIES = (
    ("auto", "Contextune, auto", "#1b6ca8", "-"),
    ("icl", "ICL", "#8a8a8a", ":"),
    ("icl_calibrated", "ICL + batch calibration", "#8a8a8a", "--"),
    ("cpt_1e-2", "CPT as in PEFT", "#c8553d", "--"),
    ("minilm", "MiniLM + regression", "#5b8c5a", ":"),
    ("e5", "e5-small + regression", "#5b8c5a", "--"),
    ("mpnet", "mpnet + regression", "#5b8c5a", "-"),
    ("setfit", "SetFit (MiniLM)", "#d9a441", ":"),
    ("setfit_e5", "SetFit (e5-small)", "#d9a441", "--"),
    ("setfit_mpnet", "SetFit (mpnet)", "#d9a441", "-"),
)
_LEARNING_SHOTS = 4


def save_plots(cells: Mapping[str, Cell], folder: Path) -> None:
    """Write ``examples.svg`` and ``seconds.svg``: means over the seeds that there are cells for."""
    _save(_by_examples(cells), folder / "examples.svg")
    _save(_by_seconds(cells), folder / "seconds.svg")


def _by_examples(cells: Mapping[str, Cell]) -> Figure:
    sets = [*ENGLISH, "chnsenticorp", "banking77_all"]
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(2, 3).flatten()
    for axes, name in zip(panels, sets, strict=True):
        for method, title, colour, line in _SERIES:
            found = {k: of_seeds(cells, name, k, method) for k in (*SHOTS, *SHOTS_OF_77)}
            points = sorted(
                (k, 100 * statistics.mean(c["accuracy"] for c in some)) for k, some in found.items() if some
            )
            axes.plot(*zip(*points, strict=True), line, marker="o", ms=3, color=colour, label=title) if points else None
        axes.set(title=name, xscale="log", xlabel="examples a class", ylabel="accuracy (%)")
        axes.set_xticks(SHOTS, [str(k) for k in SHOTS])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _by_seconds(cells: Mapping[str, Cell]) -> Figure:
    """Means over the English sets, of methods that were measured on all of them."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for method, title, colour, _ in _SERIES:
        found = [of_seeds(cells, name, _LEARNING_SHOTS, method) for name in ENGLISH]
        if all(found):
            seconds = statistics.mean(statistics.mean(c["tuning_seconds"] for c in some) for some in found)
            accuracy = statistics.mean(statistics.mean(c["accuracy"] for c in some) for some in found)
            axes.plot(max(seconds, 0.1), 100 * accuracy, "o", color=colour)
            axes.annotate(title, (max(seconds, 0.1), 100 * accuracy), xytext=(6, 3), textcoords="offset points", size=8)
    axes.set(xscale="log", xlabel=f"seconds to learn, k = {_LEARNING_SHOTS}", ylabel="accuracy (%), English sets")
    axes.margins(x=0.25, y=0.15)
    axes.grid(alpha=0.3)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with rc_context({"svg.hashsalt": path.name}):  # else ids are drawn anew each time
        figure.savefig(path, metadata={"Date": None})
