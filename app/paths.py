"""A request's path as the routes know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def own_path(scope: Mapping[str, Any]) -> str:
    """The path without ``CONTEXTUNE_ROOT_PATH``, which the server puts before the path that it was asked for."""
    # Within mounted files `root_path` is longer by where these are mounted.
    root = scope.get("app_root_path", scope.get("root_path", ""))
    return str(scope["path"]).removeprefix(root)
