"""``python -m worker.health``: whether the worker of this machine or container serves; exit status 0 if so.

It does when the bus holds an announcement from here for each of its models, ready or refused as unsupported. Loads
neither torch nor a model.
"""

from __future__ import annotations

import socket
import sys
from typing import cast

import redis

from app.contract.announcements import KEYS, LIVE
from app.contract.messages import Announcement
from worker.config import WorkerSettings


def unready(bus_url: str, models: list[str]) -> list[str]:
    """Those of ``models`` that no worker on this host announces. Raises ``redis.RedisError``."""
    with redis.Redis.from_url(bus_url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True) as client:
        _, live = cast("tuple[object, list[str | None]]", client.eval(LIVE, len(KEYS), *KEYS))
    served = set()
    for text in live:
        try:
            one = Announcement.model_validate_json(text or "")
        except ValueError:  # of another release
            continue
        if one.host == socket.gethostname() and (one.ready or one.unsupported is not None):
            served.add(one.model)
    return [model for model in models if model not in served]


def main() -> int:
    """Say what is not served, if anything."""
    settings = WorkerSettings()  # type: ignore[call-arg]  # the environment gives the URLs
    try:
        missing = unready(settings.bus_url, list(settings.own_models))
    except redis.RedisError as error:
        missing = [str(error)]
    if missing:
        sys.stderr.write(f"not ready: {', '.join(missing)}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
