"""What a gateway counts between two writes to the store."""

import asyncio
from pathlib import Path

from app.access.callers import Caller
from app.access.meter import Meter
from app.access.secrets import hash_of, new_secret
from app.contract.access import KeyLimits, Scope
from app.records.connection import connect, new_id
from app.records.store import Records
from tests.app.lossy import LossyStore, lossy


def test_what_was_written_and_not_answered_is_counted_once(store_url: str, records: Records, tmp_path: Path) -> None:
    async def scenario(way: LossyStore) -> None:
        client = connect(way.url)
        meter = Meter(Records(client))
        meter.add("first", 1, 1, 1)
        await meter.try_to_write()
        way.lose(b"acme", 2)  # as often as the client asks
        meter.add("acme", 1, 10, 100)
        meter.add("other", 1, 1, 1)
        await meter.try_to_write()
        assert way.losses == 0
        meter.add("acme", 2, 20, 200)
        await meter.try_to_write()
        await meter.try_to_write()
        client.close()

    with lossy(tmp_path, store_url) as way:
        asyncio.run(scenario(way))
    (day,) = records.of("acme").usage.days()
    assert (day.requests, day.inputs, day.input_tokens, day.context_tokens) == (2, 3, 30, 300)
    (day,) = records.of("other").usage.days()
    assert day.requests == 1


def test_what_was_counted_while_the_store_is_away_is_written_later(
    store_url: str, records: Records, tmp_path: Path
) -> None:
    secret_hash = hash_of(new_secret())
    given = (new_id("key"), secret_hash, "default", "reader", (Scope.READ,), KeyLimits(), None)
    key = records.access.create_key(*given)
    socket = tmp_path / "store"

    async def scenario() -> None:
        meter = Meter(Records(connect(f"unix://{socket}")))
        meter.note_use(Caller("default", frozenset(), key, secret_hash))
        meter.add("default", 2, 30, 400)
        await meter.try_to_write()
        meter.add("default", 1, 5, 400)
        socket.symlink_to(store_url.removeprefix("unix://"))
        await meter.try_to_write()
        await meter.try_to_write()  # nothing is written twice

    asyncio.run(scenario())
    (day,) = records.of("default").usage.days()
    assert (day.requests, day.inputs, day.input_tokens, day.context_tokens) == (2, 3, 35, 800)
    found = records.access.find(secret_hash).found
    assert found
    assert found.key.last_used_at is not None
