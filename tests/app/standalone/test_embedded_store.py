"""A store on a full disk is read; it is written as soon as there is room again."""

import os
import signal
from pathlib import Path

import pytest

from app.records.connection import StoreUnavailable, connect
from app.records.store import Records
from app.standalone.embedded_store import ENOUGH_FREE_BYTES, LEAST_FREE_BYTES, EmbeddedStore
from tests.submissions import submission
from tests.waiting import eventually


class StoreOnADisk(EmbeddedStore):
    """A store whose disk has as much room as it is told."""

    free = ENOUGH_FREE_BYTES

    def free_bytes(self) -> int:
        return self.free


def test_store_is_only_read_while_its_disk_is_full(tmp_path: Path) -> None:
    store = StoreOnADisk.store(tmp_path)
    assert isinstance(store, StoreOnADisk)
    store.start()
    try:
        eventually(store.answers)
        with connect(store.url) as client:
            records = Records(client, artifacts_url=f"file://{tmp_path}/artifacts")
            contexts = records.of("default").contexts
            kept = contexts.submit(submission())[0].context.id

            def only_read() -> None:
                assert store.running()
                with pytest.raises(StoreUnavailable):
                    contexts.submit(submission())
                with pytest.raises(StoreUnavailable):
                    contexts.delete(kept)  # although a store that is full of rows would do it
                assert contexts.get(kept)

            store.free = LEAST_FREE_BYTES - 1
            only_read()
            pid = store.pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: not store.running())
            store.start()
            eventually(store.answers)
            only_read()
            store.free = ENOUGH_FREE_BYTES - 1
            only_read()
            store.free = ENOUGH_FREE_BYTES
            assert store.running()
            assert contexts.delete(kept)
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
    finally:
        store.stop()
