"""Time this tree and earlier commits in turn, on the CPU.

``python -m benchmarks.against COMMIT [COMMIT ...] [--rounds 15] [--cache FOLDER]`` prints, for each piece of work, the
seconds of each tree and, round by round, the ratio of this tree to each commit: below 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.measurement import ratios, spread

_HERE: Final = Path(__file__).parents[2]
_SIDE: Final = Path(__file__).with_name("work.py")
_ROWS: Final = _HERE / "examples" / "support-intents.csv"
_THIS: Final = "this tree"
_MEASURES: Final = ("clock", "processor")


class Side:
    """A tree's process."""

    def __init__(self, tree: Path, cache: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_SIDE), str(tree), str(_ROWS), str(cache)],
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.works: list[str] = self._hear()

    def seconds(self, work: str) -> list[float]:
        """How long the work takes once, by each measure."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{work}\n")
        self._process.stdin.flush()
        found: list[float] = self._hear()
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise RuntimeError(f"a tree's process has ended with status {self._process.wait()}")


@contextmanager
def sides(commits: list[str], cache: Path) -> Iterator[dict[str, Side]]:
    """A process for each commit, and one for this tree."""
    found: dict[str, Side] = {}
    with tempfile.TemporaryDirectory(prefix="contextune-against-") as folder:
        try:
            for commit in commits:
                tree = Path(folder, commit)
                tree.mkdir()
                archive = subprocess.run(["git", "archive", commit], cwd=_HERE, stdout=subprocess.PIPE, check=True)
                subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
                found[commit] = Side(tree, cache)
            found[_THIS] = Side(_HERE, cache)
            yield found
        finally:
            for side in found.values():
                side.close()


def measure(trees: dict[str, Side], rounds: int) -> dict[str, dict[str, list[list[float]]]]:
    """By work and tree, the seconds of each round; every second round goes in the opposite order."""
    order = list(trees)
    seconds: dict[str, dict[str, list[list[float]]]] = {}
    for work in trees[_THIS].works:
        taken = seconds.setdefault(work, {name: [] for name in order})
        for number in range(-1, rounds):
            for name in order:
                one = trees[name].seconds(work)
                if number >= 0:  # the first is to warm up
                    taken[name].append(one)
            order.reverse()
    return seconds


def report(seconds: dict[str, dict[str, list[list[float]]]]) -> list[dict[str, Any]]:
    """A row for each work, measure and commit."""
    return [
        {
            "work": work,
            "measure": measure,
            "commit": name,
            "seconds": spread([one[number] for one in taken[name]]),
            "this": spread([one[number] for one in taken[_THIS]]),
            "ratio": ratios([one[number] for one in taken[_THIS]], [one[number] for one in taken[name]]),
        }
        for work, taken in seconds.items()
        for number, measure in enumerate(_MEASURES)
        for name in taken
        if name != _THIS
    ]


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against")
    parser.add_argument("commits", nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cache", type=Path, default=_HERE / "build" / "benchmarks" / "models")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    with sides(given.commits, given.cache) as trees:
        for row in report(measure(trees, given.rounds)):
            before, now, ratio = row["seconds"], row["this"], row["ratio"]
            print(
                f"{row['work']:12} {row['measure']:10} {row['commit']:10} {before['median']:8.3f} s, now "
                f"{now['median']:8.3f} s: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
            )


if __name__ == "__main__":
    main()
