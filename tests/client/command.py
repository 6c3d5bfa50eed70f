"""The command ``contextune`` in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "client" / "src"


def contextune(*arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command; ``path`` is a folder of further distributions, ``environment`` replaces variables."""
    folders = [str(folder) for folder in (path, SOURCES) if folder]
    return subprocess.run(
        [sys.executable, "-m", "contextune.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "COLUMNS": "120", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
