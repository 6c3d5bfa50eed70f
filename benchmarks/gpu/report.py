"""The figures of `gpu.json` as tables in the README, with the card that they are of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_BEGIN: Final = "<!-- figures of a GPU -->\n"
_END: Final = "<!-- end of figures of a GPU -->"


def write(stored: Path, readme: Path) -> None:
    """Write the tables of `stored` anew between the marks in `readme`. Raises ValueError where it has none."""
    text = readme.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{readme} has no place for figures of a GPU")
    readme.write_text(before + begin + tables(json.loads(stored.read_text())) + end + after)


def tables(parts: Mapping[str, Any]) -> str:
    """Markdown: a heading for each card and commit, a table for each part; parts that failed are named."""
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        lines = found.setdefault(f"### {part['card']}, commit {part['commit'][:9]}, torch {part['torch']}\n", [])
        if "error" in part:
            lines.append(f"{name} failed: {part['error'].splitlines()[0]}\n")
        else:
            lines.append(f"{name}, {part['seconds']} s\n")
            lines.append(_TABLES.get(name.split("/")[0], _plain)(part["figures"]))
    return "".join(f"{line}\n" for heading, lines in found.items() for line in (heading, *lines))


def _steps(figures: Mapping[str, Any]) -> str:
    rows = [
        (
            count,
            _ms(one["seconds"]),
            _ms(one["peft_seconds"]),
            f"**{one['speedup']:.1f}x**",
            f"{one['share_of_rate']:.1%} of {figures['rate_tflops']:.0f} TFLOP/s",
            _gib(one["peak_bytes"]),
            _gib(one["peft_peak_bytes"]),
        )
        for count, one in figures["by_examples"].items()
    ]
    return _table(("K", "ours", "PEFT", "PEFT / ours", "of the card's rate", "our peak", "PEFT's peak"), rows)


def _queries(figures: Mapping[str, Any]) -> str:
    rows = [
        (
            *name.split("x"),
            _ms(one["ours"]),
            _ms(one["ours_with_states"]),
            f"**{one['faster_than_plain']:.1f}x**",
            f"{one['faster_than_peft']:.1f}x",
        )
        for name, one in figures.items()
        if isinstance(one, dict)
    ]
    heads = ("batch", "labels", "ours, a query", "with states for a head", "transformers / ours", "PEFT / ours")
    return _table(heads, rows)


def _plain(figures: Mapping[str, Any]) -> str:
    """Any other figures, by their names."""
    return _table(("what", "figure"), list(_flat(figures, "")))


def _flat(figures: Mapping[str, Any], above: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, value in figures.items():
        path = f"{above}{name}"
        if isinstance(value, dict):
            rows += _flat(value, f"{path}, ")
        else:
            rows.append((path, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


_TABLES: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {"steps": _steps, "queries": _queries}


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---:",) * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
