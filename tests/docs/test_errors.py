"""The page of errors names every code with its status."""

import re
from pathlib import Path

from app.contract.names import ErrorCode
from app.problems import STATUS, UNPROCESSABLE

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
_ROW = re.compile(r"^\| `([a-z_]+)` \| (\d{3}) \|", re.MULTILINE)


def test_every_code_is_explained_once_with_its_status() -> None:
    rows = _ROW.findall(PAGE.read_text()) if PAGE.exists() else []
    assert sorted(rows) == sorted((code.value, str(STATUS.get(code, UNPROCESSABLE))) for code in ErrorCode)
