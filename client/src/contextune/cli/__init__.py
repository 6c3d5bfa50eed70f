"""The command ``contextune``. This module needs no more than Python: it says what to install where that is missing."""

from __future__ import annotations

import importlib.util
import sys

_NEEDED = ("rich", "typer")


def main() -> None:
    """Entry point of the script ``contextune``."""
    if any(importlib.util.find_spec(module) is None for module in _NEEDED):
        sys.stderr.write("The command line needs two more packages: pip install 'contextune[cli]'\n")
        sys.exit(1)
    from contextune.cli.application import run  # noqa: PLC0415 - needs what was looked for above

    run()
