"""Links between our own pages lead to a file, and to a heading where they name one."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (*TOP.glob("*.md"), *(TOP / "docs").rglob("*.*"), *TOP.glob("*/README.md"))
    if page.suffix in {".md", ".txt"}
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them of plain words."""
    lines = _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title)) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_of_the_page_lead_somewhere(page: Path) -> None:
    lost = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in headings(target)):
            lost.append(link)
    assert lost == []


def test_pages_are_found() -> None:
    assert len(PAGES) > 15
