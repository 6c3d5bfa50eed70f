"""What the command remembers: the service's address and a key, in a file that only its owner can read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from contextune.errors import ContextuneError
from contextune.replacing import replaced

NAMES: Final = ("url", "key")


def path() -> Path:
    """Where the settings are: ``CONTEXTUNE_CONFIG``, else below ``XDG_CONFIG_HOME`` or ``~/.config``."""
    named = os.environ.get("CONTEXTUNE_CONFIG")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "contextune" / "config.json"


def read() -> dict[str, str]:
    """The settings that were made. Raises ``ContextuneError`` for a file that is none of this command's."""
    try:
        settings = json.loads(path().read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ContextuneError(f"{path()} cannot be read: {error}") from None
    if not isinstance(settings, dict):
        raise ContextuneError(f"{path()} holds no settings")
    return {name: str(settings[name]) for name in NAMES if name in settings}


def write(settings: dict[str, str]) -> None:
    """Replace the settings, in one step."""
    target = path()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replaced(target) as partial:
        partial.chmod(0o600)
        partial.write_text(json.dumps(settings), "utf-8")
