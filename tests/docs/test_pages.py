"""Every code block of README.md and docs/ is run, or says which verb of the Makefile runs it.

A page is one session: its blocks run in their order. Languages:

- ``console``: commands after ``$ ``; the output that is shown must be theirs;
- ``python``: run; a block after it with the comment ``output`` shows what it prints;
- ``json``: must be JSON;
- ``text`` after the comment ``tree``: paths that exist.

Commands after the comment ``repeat`` are repeated until they say what the page shows.
A block after the comment ``run by make VERB`` is run by that verb and not here.
"""

import json
import re
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, steps
from tests.docs.session import Session, alike, assert_shown
from tests.e2e.service import Service

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", TOP / "README.zh.md", TOP / "client" / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
#: Pages after which the service takes no request without a key.
CLOSES_THE_SERVICE = {"security.md"}
VERBS = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def service(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of the pages' own: what they show is not mixed with what other tests leave."""
    service = Service(tmp_path_factory.mktemp("service"), models, webhooks="any")
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture
def fresh_service(models: Path, tmp_path: Path) -> Iterator[Service]:
    """A service for one page."""
    service = Service(tmp_path / "service", models)
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture
def session(request: pytest.FixtureRequest, page: Path, tmp_path: Path) -> Iterator[Session]:
    """A reader in a folder that has the examples."""
    (tmp_path / "examples").symlink_to(TOP / "examples")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    service = request.getfixturevalue("fresh_service" if page.name in CLOSES_THE_SERVICE else "service")
    session = Session(tmp_path, str(service.http.base_url).rstrip("/"), service.folder)
    yield session
    session.close()


def run(page: list[Block], session: Session) -> None:
    """Run the blocks of a page."""
    printed = ""
    for block in page:
        if verb := re.fullmatch(r"run by make ([a-z-]+)", block.note):
            assert verb[1] in VERBS, f"{block}: there is no make {verb[1]}"
        elif block.note == "output":
            assert_shown(block.text, printed)
        elif block.note == "tree":
            assert {path for path in paths(block.text) if not (TOP / path).exists()} == set(), str(block)
        elif block.language == "console":
            for step in steps(block):
                session.run(step, repeat=block.note == "repeat")
        elif block.language == "python":
            printed = session.run_python(block.text)
        else:
            assert block.language == "json", f"{block}: nothing runs a block of this kind"
            json.loads(block.text)


def paths(tree: str) -> Iterator[str]:
    """The paths that lines of a tree begin with, each level two columns to the right of what holds it."""
    holders: list[str] = []
    for line in tree.splitlines():
        names = list(takewhile(re.compile(r"\w+/|\w[\w-]*\.\w+").fullmatch, line.split()))
        holders[(len(line) - len(line.lstrip())) // 2 :] = [names[0]]
        yield from ("".join([*holders[:-1], name]) for name in names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_block_of_the_page_works(page: Path, session: Session) -> None:
    run(list(blocks(page)), session)


def test_trees_of_both_readmes_name_every_room() -> None:
    english, chinese = (
        [*paths(block.text)]
        for name in ("README.md", "README.zh.md")
        for block in blocks(TOP / name)
        if block.note == "tree"
    )
    rooms = {path.parent for house in ("app", "worker", "worker/cpt") for path in (TOP / house).glob("*/__init__.py")}
    assert {f"{room.relative_to(TOP)}/" for room in rooms} <= set(english)
    assert chinese == english


def test_readme_is_short_enough_to_be_read() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) < 150


@pytest.mark.parametrize(
    ("said", "shown", "same"),
    [
        (
            '{"id": "ctx_0123456789abcdef01234567", "n": 2}',
            '{"id": "ctx_aaaaaaaaaaaaaaaaaaaaaaaa", "n": 31.5e-3}',
            True,
        ),
        ("a\nb\nc", "a\n...\nc", True),
        ("a\nb", "a\nc", False),
        ("2026-01-01T00:00:00.1Z ready", "2025-12-31T23:59:59Z ready", True),
    ],
)
def test_what_a_page_shows_may_differ_in_numbers_alone(said: str, shown: str, same: bool) -> None:
    if same:
        assert_shown(shown, said)
    else:
        assert alike(said) != alike(shown)
        with pytest.raises(AssertionError, match="the page shows"):
            assert_shown(shown, said)
