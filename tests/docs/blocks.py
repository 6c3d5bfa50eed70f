"""The code blocks of a page of Markdown, with what is said of each in the comment before it. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->\s*", re.DOTALL)
_COMMAND = "$ "


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its text, and the comment that stands right before it."""

    page: Path
    line: int
    language: str
    text: str
    note: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Step:
    """A command of a console block, and the output that the page shows for it."""

    command: str
    output: str


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of ``page`` in their order."""
    note, note_end = "", -1
    for token in MarkdownIt().parse(page.read_text()):
        begin, end = token.map or (0, 0)
        if token.type == "html_block" and (comment := _COMMENT.fullmatch(token.content)):
            note, note_end = comment[1], end
        elif token.type in ("fence", "code_block"):
            yield Block(page, begin + 1, token.info, token.content, note if begin - note_end in (0, 1) else "")


def steps(block: Block) -> Iterator[Step]:
    """The commands of a console block: each begins with ``$ `` and goes on after a line that ends with a backslash."""
    lines = block.text.splitlines()
    assert lines, f"{block}: an empty block"
    assert lines[0].startswith(_COMMAND), f"{block}: a console block begins with a command"
    while lines:
        command = [lines.pop(0).removeprefix(_COMMAND)]
        while command[-1].endswith("\\"):
            command.append(lines.pop(0))
        output = []
        while lines and not lines[0].startswith(_COMMAND):
            output.append(lines.pop(0))
        yield Step("\n".join(command), "\n".join(output))
