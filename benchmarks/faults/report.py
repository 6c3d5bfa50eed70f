"""The table of what was measured, in the benchmarks' README."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- faults: written by make bench-faults -->"
END: Final = "<!-- end of faults -->"

_HEAD: Final = (
    "| for 30 s | acknowledged | lost | refused meanwhile | gateway's memory | a request before | meanwhile | "
    "answered | after | a new context answers: before, after the end |\n"
    "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def write(stored: Mapping[str, Any], readme: Path) -> None:
    """Put the table into ``readme``, which has the markers."""
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f"{before}{BEGIN}\n\n{table(stored)}\n\n{END}{after}")


def table(stored: Mapping[str, Any]) -> str:
    """A line for each part."""
    return "\n".join([_HEAD, *(_line(part["figures"]) for part in stored.values() if "figures" in part)])


def _line(figures: Mapping[str, Any]) -> str:
    usual, meanwhile, after = figures["before"], figures["meanwhile"], figures["after"]
    outcomes = meanwhile["outcomes"]
    cells = [
        figures["what"],
        f"{figures['acknowledged']:,}",
        f"{len(figures['lost'])}",
        ", ".join(f"{count} `{code}`" for code, count in sorted(figures["refusals"].items())) or "none",
        f"{figures['gateway_mb']:.0f} MB",
        _milliseconds(usual),
        _milliseconds(meanwhile, usual),
        f"{outcomes.get('right', 0) / max(1, sum(outcomes.values())):.0%}",
        _milliseconds(after, usual),
        _seconds(figures),
    ]
    return f"| {' | '.join(cells)} |"


def _milliseconds(found: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> str:
    """The median, how many times the usual that is, and the 95th percentile."""
    if "median" not in found:
        return "-"
    times = f", {found['median'] / usual['median']:.1f}x" if usual and "median" in usual else ""
    return f"{1000 * found['median']:.0f} ms{times} (p95 {1000 * found['p95']:.0f})"


def _seconds(figures: Mapping[str, Any]) -> str:
    """How long a new context took before the fault and right after its end."""
    if "whole_before_seconds" not in figures:
        return "-"
    return f"{figures['whole_before_seconds']:.1f} s, {figures['whole_seconds']:.1f} s"
