"""Who calls, as gateways find out: what the store says is believed for a second."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from app.access.callers import BELIEVED_SECONDS, EVERYBODY, Caller, Callers, may_be_open
from app.access.secrets import hash_of
from app.config import Settings
from app.contract.access import ALL_SCOPES, KeyLimits, Scope
from app.contract.names import ErrorCode
from app.errors import DomainError
from app.records.connection import StoreUnavailable, connect
from app.records.store import Records
from tests.waiting import eventually

SECRET = "ctk_secret"


def make(records: Records, expires_at: datetime | None = None) -> None:
    records.access.create_key("key_1", hash_of(SECRET), "acme", "test", (Scope.READ,), KeyLimits(), expires_at)


async def called(callers: Callers, secret: str | None = SECRET, forwarded: bool = False) -> Caller | ErrorCode:
    try:
        return await callers.find(f"Bearer {secret}" if secret else None, forwarded=forwarded)
    except DomainError as refused:
        return refused.code


def with_callers(records: Records, *scenario: Callable[[Callers], Awaitable[None]]) -> None:
    async def whole() -> None:
        for one in scenario:
            await one(Callers(records.access, Settings()))

    asyncio.run(whole())


def test_a_key_is_its_tenants_and_has_what_its_scopes_include(records: Records) -> None:
    make(records)

    async def scenario(callers: Callers) -> None:
        caller = await called(callers)
        assert isinstance(caller, Caller)
        assert (caller.tenant, set(caller.scopes)) == ("acme", {Scope.READ})
        with pytest.raises(DomainError, match="contexts:write or admin") as refused:
            caller.require(Scope.CONTEXTS_WRITE, Scope.ADMIN)
        assert refused.value.code == ErrorCode.INSUFFICIENT_SCOPE

    with_callers(records, scenario)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, ErrorCode.KEY_REQUIRED),
        ("", ErrorCode.KEY_REQUIRED),
        ("Bearer", ErrorCode.KEY_REQUIRED),
        ("Bearer  ", ErrorCode.KEY_REQUIRED),
        (f"Basic {SECRET}", ErrorCode.KEY_REQUIRED),
        (SECRET, ErrorCode.KEY_REQUIRED),
        ("Bearer ctk_other", ErrorCode.KEY_INVALID),
        (f"Bearer {hash_of(SECRET)}", ErrorCode.KEY_INVALID),
        ("Bearer \xff", ErrorCode.KEY_INVALID),
        (f"bearer {SECRET}", None),
        (f"Bearer   {SECRET} ", None),
    ],
)
def test_the_header(records: Records, authorization: str | None, code: ErrorCode | None) -> None:
    make(records)

    async def scenario(callers: Callers) -> None:
        if code is None:
            assert (await callers.find(authorization, forwarded=False)).tenant == "acme"
        else:
            with pytest.raises(DomainError) as refused:
                await callers.find(authorization, forwarded=False)
            assert refused.value.code == code

    with_callers(records, scenario)


def test_a_revoked_key_stops_at_once_where_it_was_revoked_and_in_a_second_elsewhere(records: Records) -> None:
    make(records)

    async def scenario(here: Callers) -> None:
        elsewhere = Callers(records.access, Settings())
        for callers in (here, elsewhere):
            assert isinstance(await called(callers), Caller)
        here.forget(records.access.delete_key("key_1", None) or "")
        assert await called(here) == ErrorCode.KEY_INVALID
        await asyncio.sleep(BELIEVED_SECONDS)
        assert await called(elsewhere) == ErrorCode.KEY_INVALID

    with_callers(records, scenario)


def test_a_key_is_not_believed_beyond_its_end(records: Records, client: redis.Redis) -> None:
    seconds, micros = client.time()
    make(records, datetime.fromtimestamp(seconds + micros / 1e6, UTC) + timedelta(seconds=0.4))

    async def scenario(callers: Callers) -> None:
        assert isinstance(await called(callers), Caller)
        await asyncio.sleep(0.45)
        assert await called(callers) == ErrorCode.KEY_INVALID

    with_callers(records, scenario)


def test_an_open_gateway_closes_in_a_second_once_another_made_a_key(records: Records) -> None:
    async def scenario(callers: Callers) -> None:
        assert await called(callers, None) is EVERYBODY
        make(records)
        await asyncio.sleep(BELIEVED_SECONDS)
        assert await called(callers, None) == ErrorCode.KEY_REQUIRED

    with_callers(records, scenario)


def test_what_was_asked_before_a_key_was_revoked_is_not_believed_after_it(
    records: Records, client: redis.Redis
) -> None:
    make(records)

    async def scenario(callers: Callers) -> None:
        callers.close_doors()
        before = calls(client)
        asking = asyncio.create_task(called(callers))
        for _ in range(3):  # until a thread asks
            await asyncio.sleep(0)
        eventually(lambda: calls(client) > before)  # this holds the event loop up: the answer is not taken yet
        callers.forget(records.access.delete_key("key_1", None) or "")
        together = await asyncio.gather(asking, called(callers))
        assert [isinstance(one, Caller) for one in together] == [True, False]
        assert await called(callers) == ErrorCode.KEY_INVALID

    records.access.find("")  # so that the store has the script
    with_callers(records, scenario)


def calls(client: redis.Redis) -> int:
    """Scripts that the store has run."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def test_many_requests_with_one_key_ask_the_store_once(records: Records, client: redis.Redis) -> None:
    make(records)

    async def scenario(callers: Callers) -> None:
        callers.close_doors()
        before = calls(client)
        found = await asyncio.gather(*(called(callers) for _ in range(100)))
        assert all(isinstance(one, Caller) for one in found)
        assert calls(client) - before <= 2  # the script may have to be sent

    with_callers(records, scenario)


def test_answer_that_came_while_the_event_loop_was_held_up_counts(records: Records) -> None:
    make(records)

    async def scenario() -> None:
        callers = Callers(records.access, Settings(), lookup_seconds=0.2)
        asking = asyncio.create_task(called(callers))
        for _ in range(3):  # until a thread asks
            await asyncio.sleep(0)
        time.sleep(1)  # noqa: ASYNC251 - as a crowd of requests does
        assert isinstance(await asking, Caller)

    asyncio.run(scenario())


def test_other_waits_for_the_store_keep_no_caller_out(records: Records) -> None:
    make(records)

    async def scenario(callers: Callers) -> None:
        over = threading.Event()
        waits = [asyncio.create_task(asyncio.to_thread(over.wait, 60)) for _ in range(100)]
        await asyncio.sleep(0.1)
        try:
            assert isinstance(await called(callers), Caller)
        finally:
            over.set()
            await asyncio.gather(*waits)

    with_callers(records, scenario)


def test_without_the_store_nobody_is_let_in(tmp_path: Path) -> None:
    client = connect(f"unix://{tmp_path}/none")

    async def scenario(callers: Callers) -> None:
        for secret in (None, SECRET):
            with pytest.raises(StoreUnavailable):
                await called(callers, secret)

    with_callers(Records(client), scenario)
    client.close()


def test_a_cancelled_request_takes_nothing_from_those_that_ask_the_same(records: Records) -> None:
    make(records)

    async def scenario(callers: Callers) -> None:
        callers.close_doors()
        first, second = (asyncio.create_task(called(callers)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert isinstance(await second, Caller)

    with_callers(records, scenario)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.0.2.7", False), ("example.com", False)],
)  # fmt: skip
def test_only_a_loopback_address_may_be_open(host: str, loopback: bool) -> None:
    assert may_be_open(Settings(host=host)) is loopback


def test_a_service_without_a_key_has_every_scope_and_the_default_tenant() -> None:
    assert EVERYBODY.scopes == set(ALL_SCOPES)
    assert EVERYBODY.tenant == "default"
