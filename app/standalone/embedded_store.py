"""The embedded store: checked as soon as it answers, and only read while its disk is full.

A server that syncs each write ends at one that its disk has no room for, and does so again after each start: nothing
could be read until there is room. So it refuses writes before that.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.records.requirements import refusal
from app.standalone.embedded import STORE_OPTIONS, EmbeddedServer
from app.standalone.supervisor import StartFailedError

#: Below the first the store is only read, from the second on it is written again (bytes).
LEAST_FREE_BYTES: Final = 4 * 1024 * 1024
ENOUGH_FREE_BYTES: Final = 2 * LEAST_FREE_BYTES

# A store that waits for a replica, where there is none, refuses every write. That keys have expired is still written,
# which ends no server that does not sync each write.
_ONLY_READ: Final = {"min-replicas-to-write": "1", "appendfsync": "everysec"}
_WRITTEN: Final = {"min-replicas-to-write": "0", "appendfsync": "always"}
_ONLY_READ_OPTIONS: Final = tuple(part for name, value in _ONLY_READ.items() for part in (f"--{name}", value))


class EmbeddedStore(EmbeddedServer):
    """The durable server of a data folder."""

    _only_read: bool | None = None  # None while that is not known, as of a server that was adopted

    def free_bytes(self) -> int:
        """Room on its disk."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return shutil.disk_usage(self._folder).free

    def start(self) -> None:
        """Starts it, only to be read if its disk is full."""
        self._only_read = None
        self._options = (*STORE_OPTIONS, *(_ONLY_READ_OPTIONS if self.free_bytes() < LEAST_FREE_BYTES else ()))
        super().start()

    def running(self) -> bool:
        """Whether its process lives. Asked several times a second, it looks after the room on the disk too."""
        lives = super().running()
        if lives:
            self._follow_room()
        return lives

    def answers(self) -> bool:
        """Whether it answers. Raises ``StartFailedError`` when what it holds must not be used."""
        if not super().answers():
            return False
        if reason := refusal(self.url):
            raise StartFailedError(reason)
        return True

    def _follow_room(self) -> None:
        only_read = self.free_bytes() < (ENOUGH_FREE_BYTES if self._only_read else LEAST_FREE_BYTES)
        if only_read != self._only_read and self._configure(_ONLY_READ if only_read else _WRITTEN):
            self._only_read = only_read

    def _configure(self, settings: Mapping[str, str]) -> bool:
        """Whether the server took the settings; one that is starting is asked again."""
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=1, retry=Retry(NoBackoff(), 0))
        try:
            (name, value), *others = settings.items()
            return bool(client.config_set(name, value, *(part for pair in others for part in pair)))
        except redis.RedisError:
            return False
        finally:
            client.close()
