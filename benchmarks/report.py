"""Results as tables in benchmarks/README.md, between two markers, and as a plot beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import PACKAGES
from benchmarks.plot import save_plot
from benchmarks.profiling import SHARES
from benchmarks.results import Cell, Results

BEGIN, END = "<!-- results: written by make bench -->", "<!-- end of results -->"
PLOT = "cost.svg"

_PEERS = {
    "plain": "transformers",
    "peft": "PEFT",
    "llama_alone": "llama.cpp, one at a time",
    "llama_packed": "llama.cpp, packed",
}


def write(results: Results, readme: Path) -> None:
    """Put the tables into `readme`, which is made if it is not there, and the plot beside it."""
    text = readme.read_text() if readme.exists() else f"{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    if results.named("step"):
        save_plot(results.named("step"), readme.parent / PLOT)
    readme.write_text(f"{before}{BEGIN}\n\n{tables(results)}\n{END}{after}")


def tables(results: Results) -> str:
    """All tables there are results for."""
    sections: list[tuple[str, str, Callable[[list[Cell]], str]]] = [
        ("Tuning: one step", "step", _steps),
        ("Tuning: peak memory above the loaded model", "memory", _memory),
        ("Tuning: whole jobs", "job", _jobs),
        ("Classification", "classification", _classification),
        ("Classification: few labels and many", "labels", _labels),
        ("Classification: label scores alone and with a head", "head", _head),
        ("Service: under load", "load", _load),
        ("Service: overhead of a request", "overhead", _overhead),
        ("Service: how soon it gets to work", "first", _first),
        ("Where the time goes", "profile", _profiles),
    ]
    parts = [_machine(results.run)]
    if disturbed := results.disturbed():
        parts.append(
            f"**Not to be trusted:** other processes were at work before {len(disturbed)} of {len(results.cells)} "
            f"cells ({', '.join(disturbed)}), and tell for or against a contender by how its threads wait."
        )
    if len(by_processor := results.by_processor()) > 1:
        most, *others = sorted(by_processor, key=lambda one: -len(by_processor[one]))
        parts += [f"Not on {most}, as the others, but on {one}: {', '.join(by_processor[one])}." for one in others]
    for title, kind, table in sections:
        if cells := results.named(kind):
            parts.append(f"### {title}\n\n{table(cells)}")
            if kind == "step":
                parts.append(f"![Cost of a step against K]({PLOT})")
    return "\n\n".join(parts) + "\n"


def _machine(run: dict[str, Any]) -> str:
    machine = run["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *PACKAGES) if machine[name])
    without = "" if machine["llama-cpp-python"] else " llama.cpp was not measured: llama-cpp-python is not installed."
    return (
        f"Run on {machine['processor']}, {machine['cores']} cores ({machine['torch_threads']} torch threads), "
        f"{machine['memory_gib']} GiB; {versions}. Texts: {run['texts']}. float32 but for llama.cpp.{without}\n\n"
        "Figures are medians (least to greatest) of rounds in which the contenders took turns; a ratio is that of the "
        "same round."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _seconds(values: dict[str, Any]) -> str:
    scale, unit = (1, "s") if values["median"] >= 1 else (1000, "ms")
    return _spread(values, scale, f" {unit}")


def _milliseconds(values: dict[str, Any]) -> str:
    return _spread(values, 1000, " ms")


def _times(values: dict[str, Any]) -> str:
    return _spread(values, 1, "x")


def _percent(values: dict[str, Any]) -> str:
    return _spread(values, 100, "%")


def _spread(values: dict[str, Any], scale: float, unit: str) -> str:
    median, least, greatest = (_short(values[name] * scale) for name in ("median", "min", "max"))
    return f"{median}{unit} ({least} to {greatest})"


def _short(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _steps(cells: list[Cell]) -> str:
    head = ("K", "tokens", "ours", "PEFT", "PEFT / ours", "GFLOP/s", "of GEMM rate", "time / ideal")
    rows = [
        (
            str(cell["examples"]),
            str(cell["context_tokens"] + cell["example_tokens"]),
            _seconds(cell["ours"]),
            _seconds(cell["peft"]),
            f"**{_times(cell['speedup'])}**",
            _short(cell["gflops"]["median"]),
            _of_rate(cell["gflops"]["median"], cell["gemm_gflops"]["median"]),
            _times(cell["of_ideal"]),
        )
        for cell in cells
    ]
    return f"{_table(head, rows)}\n\n{_step_notes(cells)}"


def _of_rate(gflops: float, rate: float) -> str:
    return f"{_short(100 * gflops / rate)}% of {_short(rate)}"


def _step_notes(cells: list[Cell]) -> str:
    chosen = ", ".join(f"{cell['micro_batch']} rows at K = {cell['examples']}" for cell in cells)
    scaled = [
        f"At K = {cell['examples']} PEFT is timed on {cell['rows_timed']} of the rows and scaled."
        for cell in cells
        if cell["rows_timed"] < cell["examples"]
    ]
    return " ".join(
        [
            f"PEFT's micro-batch, the fastest for it: {chosen}.",
            *scaled,
            "The ideal: see `flops.py`; the GEMM rate is that of oneDNN, the fastest here.",
        ]
    )


def _memory(cells: list[Cell]) -> str:
    rows = [
        (str(cell["examples"]), _gib(cell["ours"]), _gib(cell["peft"]), f"{_short(cell['ratio'])}x") for cell in cells
    ]
    return f"{_table(('K', 'ours', 'PEFT', 'PEFT / ours'), rows)}\n\nOne step each, in a process of its own."


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _jobs(cells: list[Cell]) -> str:
    rows = [
        (
            str(cell["examples"]),
            str(cell["steps"]),
            _seconds(cell["ours"]),
            _seconds(cell["peft"]),
            _times(cell["speedup"]),
        )
        for cell in cells
    ]
    return _table(("K", "steps", "ours", "PEFT", "PEFT / ours"), rows)


def _classification(cells: list[Cell]) -> str:
    peers = [name for name in _PEERS if any(name in cell["speedup"] for cell in cells)]
    head = ["batch", "labels", "ours, a query", *[f"{_PEERS[name]} / ours" for name in peers]]
    rows = [
        [str(cell["batch"]), str(cell["labels"]), _milliseconds(cell["per_query"]["ours"])]
        + [_peer(cell, name) for name in peers]
        for cell in cells
    ]
    context = cells[0]["context_tokens"]
    note = f"Context of {context} tokens; queries of mixed lengths."
    if any(timed < cell["batch"] for cell in cells for timed in cell["timed_queries"].values()):
        note += " A peer that would take too long for a batch is timed on its first 32 queries."
    return f"{_table(head, rows)}\n\n{note}"


def _peer(cell: Cell, name: str) -> str:
    if name not in cell["speedup"]:
        return "-"
    return f"**{_times(cell['speedup'][name])}** at {_short(1000 * cell['per_query'][name]['median'])} ms"


def _labels(cells: list[Cell]) -> str:
    counts = list(cells[0]["per_query"])
    head = ["batch", *[f"{count} labels, a query" for count in counts], *[f"{c} / {counts[0]}" for c in counts[1:]]]
    rows = [
        [str(cell["batch"])]
        + [_milliseconds(cell["per_query"][count]) for count in counts]
        + [_times(cell["cost"][count]) for count in counts[1:]]
        for cell in cells
    ]
    return _table(head, rows)


def _head(cells: list[Cell]) -> str:
    rows = [
        (
            str(cell["batch"]),
            _milliseconds(cell["per_query"]["scores"]),
            _milliseconds(cell["per_query"]["with_head"]),
            f"**{_times(cell['cost'])}**",
        )
        for cell in cells
    ]
    table = _table(("batch", "label scores, a query", "with a head, a query", "with / without"), rows)
    note = f"The same context of {cells[0]['context_tokens']} tokens and {cells[0]['labels']} labels"
    return f"{table}\n\n{note}. A context of the method `auto` has a head unless `head` is false."


def _load(cells: list[Cell]) -> str:
    head = ("clients", "inputs each", "p50", "p99", "inputs/s", "in-process scorer", "of in-process")
    rows = [
        (
            str(cell["clients"]),
            str(cell["inputs"]),
            _seconds(cell["p50"]),
            _seconds(cell["p99"]),
            _spread(cell["rate"], 1, ""),
            _spread(cell["in_process_rate"], 1, ""),
            f"**{_percent(cell['share'])}**",
        )
        for cell in cells
    ]
    return (
        f"{_table(head, rows)}\n\nClients run in a process of their own on the same cores. The in-process scorer takes "
        f"batches of as many inputs as are under way, {max(cell['batch'] for cell in cells)} at most; "
        f"{cells[0]['labels']} labels."
    )


def _overhead(cells: list[Cell]) -> str:
    head = ("model", "service, p50", "in-process, p50", "added", "service / in-process")
    rows = [
        (
            cell["model"],
            _milliseconds(cell["service"]),
            _milliseconds(cell["in_process"]),
            f"**{_milliseconds(cell['overhead'])}**",
            f"{_short(cell['service']['median'] / cell['in_process']['median'])}x",
        )
        for cell in cells
    ]
    return f"{_table(head, rows)}\n\nOne client, one input. The null model is a random one of a single narrow layer."


def _first(cells: list[Cell]) -> str:
    rows = [
        (cell["what"], _seconds(cell["service"]), cell["peer"], _seconds(cell["other"]), _times(cell["ratio"]))
        for cell in cells
    ]
    return _table(("what", "service", "peer", "its time", "service / peer"), rows)


def _profiles(cells: list[Cell]) -> str:
    rows = [[cell["work"], _seconds(cell["seconds"]), *[_share(cell, name) for name in SHARES]] for cell in cells]
    return (
        f"{_table(['work', 'time', *SHARES], rows)}\n\nShares of the profiled time. *gemm* is the layers' products, "
        "*attention* all that it does, *head* the products with the vocabulary and what is made of the logits, *other "
        "operations* norms, rotary positions, activations, copies and padding, *framework* what no operation accounts "
        "for (Python, the profiler's own work)."
    )


def _share(cell: Cell, name: str) -> str:
    return f"{100 * cell['shares'][name]['median']:.1f}%"
