"""Accuracy results as tables in benchmarks/README.md, between two markers of its own, and as plots."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.accuracy import others, planted, second, significance
from benchmarks.accuracy.cells import Cell, of_seeds
from benchmarks.accuracy.protocol import ENGLISH, SEEDS, SHOTS, SHOTS_OF_77
from benchmarks.results import Results

BEGIN, END = "<!-- accuracy: written by make bench-accuracy -->", "<!-- end of accuracy -->"

_NAMES: Mapping[str, str] = {
    "icl": "ICL",
    "plain": "ICL in the request",
    "icl_calibrated": "ICL + batch calibration",
    "cpt_1e-2": "CPT as in PEFT, 1e-2",
    "minilm": "MiniLM + regression",
    "e5": "multilingual-e5-small + regression",
    "mpnet": "all-mpnet-base-v2 + regression",
    "setfit": "SetFit (MiniLM)",
    "setfit_e5": "SetFit (multilingual-e5-small)",
    "setfit_mpnet": "SetFit (all-mpnet-base-v2)",
    "auto": "**ours, auto**",
    "auto_e5": "ours, auto with multilingual-e5-small alone",
    "auto_mpnet": "ours, auto with all-mpnet-base-v2 in place of MiniLM",
    "auto_texts": "ours, auto with 500 texts without labels",
}
_PLOTS = (
    "![Accuracy against examples a class, on each data set](accuracy/examples.svg)\n\n"
    "![Accuracy against seconds to learn](accuracy/seconds.svg)"
)
#: Figures of the ablation.
_TOLD = ("accuracy", "nll")
_OTHERS_SHOTS = (4, 16)
_SETS = (*((name, SHOTS) for name in (*ENGLISH, "chnsenticorp")), ("banking77_all", SHOTS_OF_77))


def write(results: Results, readme: Path) -> None:
    """Put the tables into `readme`, which has the markers, and the plots beside it."""
    from benchmarks.accuracy.plots import save_plots  # noqa: PLC0415 - tables need no library for plots

    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f"{before}{BEGIN}\n\n{_PLOTS}\n\n{tables(results.cells)}\n{END}{after}")
    save_plots(results.cells, readme.parent / "accuracy")


def tables(cells: Mapping[str, Cell]) -> str:
    """All tables that there are cells for."""
    parts = [
        f"#### Accuracy (%), mean of {len(SEEDS)} seeds and each of them, on {name}\n\n{_accuracy(cells, name, shots)}"
        for name, shots in _SETS
    ]
    parts.append(f"#### Zero-shot: accuracy (%) by names of labels, and by a sentence on each\n\n{_zero_shot(cells)}")
    parts.append(f"#### NLL / ECE, means over the English sets at k = 4, and seconds\n\n{_calibration(cells)}")
    for name in others.NAMES:
        if any(cell.startswith(f"{name}/") for cell in cells):
            title = f"Accuracy (%) on {name}, which was not looked at before"
            parts.append(f"#### {title}\n\n{_accuracy(cells, name, _OTHERS_SHOTS)}")
    if any(name.endswith(second.NAME) for name in cells):
        parts.append(
            f"#### On {second.NAME} in place of the default model: accuracy (%) / ECE, k = 4\n\n{_second(cells)}"
        )
    if any("/auto " in name for name in cells):
        parts.append(f"#### Ablation: auto but for one lever, accuracy (%) / NLL, and the change\n\n{_ablation(cells)}")
    if any(name.endswith("/auto") for name in cells):
        title = "ECE of auto and of honest confidences on as many rows, over the cells that have both"
        parts.append(f"#### {title}\n\n{_honesty(cells)}")
        parts.append(_promises(cells))
        parts.append(f"#### Where the best peer is ahead of auto\n\n{_behind(cells)}")
    if wrong := planted.rows(cells):
        head = ["", "examples", "wrong labels planted", "of them found", "right labels named"]
        parts.append(f"#### Wrong labels planted, k = {planted.SHOTS}, sums of the seeds\n\n{_table(head, wrong)}")
    return "\n\n".join(parts) + "\n"


def _accuracy(cells: Mapping[str, Cell], name: str, shots: Sequence[int]) -> str:
    measured = {method: [of_seeds(cells, name, k, method) for k in shots] for method in _NAMES}
    rows = [
        [_NAMES[method], *[_each([100 * cell["accuracy"] for cell in found]) for found in every]]
        for method, every in measured.items()
        if any(every)
    ]
    return _table(["method", *[f"k = {k}" for k in shots]], rows)


def _zero_shot(cells: Mapping[str, Cell]) -> str:
    sets = [name for name in (*ENGLISH, "chnsenticorp", "banking77_design") if f"{name}/0/0/zero_shot" in cells]
    rows = []
    for method, title in (("zero_shot", "zero-shot"), ("zero_shot_described", "zero-shot with descriptions")):
        found = [cells[f"{name}/0/0/{method}"]["accuracy"] for name in sets if f"{name}/0/0/{method}" in cells]
        rows.append([title, *[f"{100 * one:.1f}" for one in found]])
    for method in ("icl", "plain", "auto"):
        named = [_each([100 * cell["accuracy"] for cell in of_seeds(cells, name, 4, method)]) for name in sets]
        rows.append([f"{_NAMES[method]}, k = 4", *named])
    return _table(["method", *sets], rows)


def _calibration(cells: Mapping[str, Cell]) -> str:
    head = ["method", "NLL", "ECE", "seconds to learn", "ms a query"]
    rows = []
    for method, title in _NAMES.items():
        english = [of_seeds(cells, name, 4, method) for name in ENGLISH]
        milliseconds = [[{"ms": 1000 * c["classifying_seconds"] / c["n"]} for c in found] for found in english]
        rows.append(
            [
                title,
                _mean_of_sets(english, "nll", 1, 2),
                _mean_of_sets(english, "ece", 1, 3),
                _mean_of_sets(english, "tuning_seconds", 1, 0),
                _mean_of_sets(milliseconds, "ms", 1, 0),
            ]
        )
    return _table(head, rows)


def _honesty(cells: Mapping[str, Cell]) -> str:
    """Over the English sets: means of the seeds, then of the sets that are measured."""
    rows = []
    for figure, title in (("ece", "**ours, auto**"), ("chance_ece", "confidences that mean what they say")):
        row = [title]
        for k in SHOTS:
            every = [of_seeds(cells, name, k, "auto") for name in ENGLISH]
            found = [[cell for cell in some if "chance_ece" in cell] for some in every]  # older cells have none
            means = [statistics.mean(cell[figure] for cell in some) for some in found if some]
            row.append(f"{statistics.mean(means):.3f}" if means else "-")
        rows.append(row)
    return _table(["", *[f"k = {k}" for k in SHOTS]], rows)


def _second(cells: Mapping[str, Cell]) -> str:
    sets, rows = (*ENGLISH, "chnsenticorp"), []
    for method in ("icl_calibrated", "auto"):
        for model, suffix in (("default model", ""), (second.NAME, f"_{second.NAME}")):
            found = [cells.get(f"{name}/4/0/{method}{suffix}") for name in sets]
            figures = [f"{100 * one['accuracy']:.1f} / {one['ece']:.3f}" if one else "-" for one in found]
            rows.append([f"{_NAMES[method]}, {model}", *figures])
    return _table(["method, seed 0", *sets], rows)


def _ablation(cells: Mapping[str, Cell]) -> str:
    keys = [key.split("/") for key in cells if "/auto " in key]
    draws = sorted({(name, int(k)) for name, k, *_ in keys})
    rows = [
        [method, *[_change(cells, f"{name}/{k}", method) for name, k in draws]]
        for method in dict.fromkeys(key[-1] for key in keys)
    ]
    return _table(["", *[f"{name}, k = {k}" for name, k in draws]], rows)


def _change(cells: Mapping[str, Cell], draw: str, method: str) -> str:
    """Means over the seeds that were measured with the lever and without."""
    keys = [(f"{draw}/{seed}/{method}", f"{draw}/{seed}/auto") for seed in SEEDS]
    pairs = [(cells[changed], cells[auto]) for changed, auto in keys if changed in cells and auto in cells]
    if not pairs:
        return "-"
    accuracy, nll = [
        [statistics.mean(one[name] for one in some) for some in zip(*pairs, strict=True)] for name in _TOLD
    ]
    gain, more = 100 * (accuracy[0] - accuracy[1]), nll[0] - nll[1]
    return f"{100 * accuracy[0]:.1f} ({gain:+.1f}) / {nll[0]:.3f} ({more:+.3f})"


def _promises(cells: Mapping[str, Cell]) -> str:
    """What is promised of single cells: never worse than ICL, and intervals that hold."""
    ours = {key: cell for key, cell in cells.items() if key.endswith("/auto")}
    pairs = [(cell, cells[key.replace("/auto", "/icl")]) for key, cell in ours.items() if f"{key[:-4]}icl" in cells]
    not_worse = sum(mine["accuracy"] >= plain["accuracy"] for mine, plain in pairs)
    reported = [cell["covered"] for cell in ours.values() if "covered" in cell]
    return (
        f"Auto is at least as accurate as ICL in {not_worse} of {len(pairs)} cells; the test accuracy lies in the "
        f"interval that the report gave in {sum(reported)} of {len(reported)}."
    )


def _behind(cells: Mapping[str, Cell]) -> str:
    """Every set and k at which a peer was measured on the seeds of auto: where it is more accurate, and how surely."""
    peers = [method for method in _NAMES if not method.startswith(significance.OURS)]
    pairs = [(name, k) for name, shots in _SETS for k in shots]
    every = [found for name, k in pairs if (found := significance.compare(cells, name, k, peers))]
    behind = [each for each in every if each.ours < each.theirs]
    below = significance.significant(every)
    untold = sum(each.p is None for each in behind)
    rows = [
        [
            f"{each.name}, k = {each.k}",
            str(each.seeds),
            f"{100 * each.ours:.1f}",
            f"{100 * each.theirs:.1f}",
            _NAMES[each.peer],
            "-" if each.p is None else f"{each.p:.3f}",
            "-" if each.p is None else "yes" if each in below else "no",
        ]
        for each in behind
    ]
    table = _table(["", "seeds", "auto", "best peer", "", "p", "significant"], rows)
    return (
        f"{table}\n\nOf {len(every)} sets and k, auto is at least as accurate as its best peer in "
        f"{len(every) - len(behind)}, and significantly less accurate in {len(below)}; in {untold} that is not "
        f"known. p: one-sided, paired bootstrap over test rows and seeds, which with three seeds comes out too small "
        f"rather than too large; significant: at {significance.LEVEL:g}, by Holm's procedure over all of them."
    )


def _mean_of_sets(sets: Sequence[Sequence[Mapping[str, float]]], figure: str, scale: float, digits: int = 1) -> str:
    if not all(len(found) == len(SEEDS) for found in sets):
        return "-"
    means = [statistics.mean(cell[figure] for cell in found) for found in sets]
    return f"{scale * statistics.mean(means):.{digits}f}"


def _each(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.mean(values):.1f} ({', '.join(f'{value:.0f}' for value in values)})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
