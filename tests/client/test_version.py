"""Client and server are one version."""

import tomllib
from pathlib import Path

from contextune import __version__

from app.contract.version import VERSION
from tests.client.command import contextune

TOP = Path(__file__).parents[2]


def test_version_is_the_same_wherever_it_stands() -> None:
    written = {
        tomllib.loads((TOP / folder / "pyproject.toml").read_text())["project"]["version"] for folder in (".", "client")
    }
    assert {
        __version__,
        VERSION,
        contextune("version").stdout.strip(),
        contextune("--version").stdout.strip(),
    } == written
