"""The page of the configuration, made of the settings of gateway and worker and what is said under each.

python -m release.configuration docs/configuration.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from app.config import Settings
from worker.config import WorkerSettings

_HEAD: Final = """# Configuration

Settings are environment variables; `make up` needs none of them. A value of the wrong form stops the start, which names
the setting. The settings of the gateway come first, then those that only a worker has. A worker reads the settings that
it shares with the gateway too: the URLs, the data folder, the models, the devices and the log level.

| variable | default | meaning |
|---|---|---|
"""
_TAIL: Final = """
Two variables of the libraries that a worker computes with matter too:

| variable | default | meaning |
|---|---|---|
| `OMP_NUM_THREADS` | one for each core | Threads that a worker computes with. Set it to the share of CPUs that a \
container, or each of several workers on one machine, may use. |
| `GOMP_SPINCOUNT` | `3000` | How long a worker's threads wait busily for one another. Lower it where other processes \
compete for its cores. |

The client and the command line read variables of their own:

| variable | default | meaning |
|---|---|---|
| `CONTEXTUNE_URL` | `http://127.0.0.1:8000` | Address of the service. |
| `CONTEXTUNE_API_KEY` | none | Key that requests are sent with. |
| `CONTEXTUNE_CONFIG` | `~/.config/contextune/config.json` | File that `contextune config` \
writes. |

[Traces](monitoring.md#traces) are set by the variables of OpenTelemetry.
"""


def page() -> str:
    """The page, as Markdown."""
    fields = {**WorkerSettings.model_fields, **Settings.model_fields}
    names = [
        *Settings.model_fields,
        *(name for name in WorkerSettings.model_fields if name not in Settings.model_fields),
    ]
    return _HEAD + "".join(_row(name, fields[name]) for name in names) + _TAIL


def undescribed() -> list[str]:
    """Settings of which nothing is said."""
    fields = {**WorkerSettings.model_fields, **Settings.model_fields}
    return [name for name, field in fields.items() if not field.description]


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `CONTEXTUNE_{name.upper()}` | {_default(field.default)} | {meaning} |\n"


def _default(value: Any) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        value = tuple(name if model is None else f"{name}={model}" for name, model in value.items())
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def main() -> int:
    """Write the page to the file that is named."""
    Path(sys.argv[1]).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
