"""What `make` says on a machine that lacks something."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("python", ["/no/python", "false"], ids=["absent", "old"])
def test_other_python_is_refused_in_one_line(python: str, tmp_path: Path) -> None:
    command = ["make", "--silent", "install", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}"]
    made = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    said, *of_make = made.stderr.splitlines()
    assert said == f"{python} is not Python 3.11 or newer; make PYTHON=/path/to/python names another"
    assert (made.returncode, len(of_make)) == (2, 1)
    assert not (tmp_path / "venv").exists()
