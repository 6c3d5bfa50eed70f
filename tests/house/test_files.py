"""Files that are short enough to be read, with names that say what they hold."""

from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
MAX_LINES = 300
MEANINGLESS = {"utils", "helpers", "manager", "data", "common", "misc", "base"}
FILES = [path for room in ("app", "worker", "client/src") for path in sorted((TOP / room).rglob("*.py"))]


def test_no_file_is_longer_than_a_reader_bears() -> None:
    lines = {str(path.relative_to(TOP)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_every_name_says_what_it_holds(kind: str) -> None:
    names = {path.stem if kind == "file" else path.parent.name for path in FILES}
    assert names & MEANINGLESS == set()
