"""The client of a command: made of ``--url``, the environment and the settings, in this order."""

from __future__ import annotations

import os

import typer

from contextune.cli import settings
from contextune.client import Contextune


def connect(context: typer.Context) -> Contextune:
    """A client for this command."""
    remembered = settings.read()
    named = context.find_root().obj
    url = named or os.environ.get("CONTEXTUNE_URL") or remembered.get("url")
    return Contextune(url, os.environ.get("CONTEXTUNE_API_KEY") or remembered.get("key"))
