import asyncio
from typing import Any

import pytest
from fastapi import Request

from app.routes.disconnect import ClientGone, cancel_on_disconnect


class Connection:
    """A request's connection, its body read, that is closed when `close` is called."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()
        self._told_of_body = False
        self.request = Request({"type": "http"}, self._receive)

    def close(self) -> None:
        self._closed.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._told_of_body:
            self._told_of_body = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._closed.wait()
        return {"type": "http.disconnect"}


def test_work_ends_when_the_client_hangs_up() -> None:
    async def scenario() -> None:
        connection, ended = Connection(), asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        waiting = asyncio.create_task(cancel_on_disconnect(connection.request, work()))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        connection.close()
        with pytest.raises(ClientGone):
            await waiting
        async with asyncio.timeout(30):
            await ended.wait()

    asyncio.run(scenario())


@pytest.mark.parametrize("fails", [False, True])
def test_without_a_hang_up_the_work_decides(fails: bool) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        if fails:
            raise ZeroDivisionError
        return "done"

    async def scenario() -> None:
        if fails:
            with pytest.raises(ZeroDivisionError):
                await cancel_on_disconnect(Connection().request, work())
        else:
            assert await cancel_on_disconnect(Connection().request, work()) == "done"

    asyncio.run(scenario())


def test_answer_that_comes_with_the_hang_up_is_not_lost() -> None:
    async def scenario() -> None:
        connection = Connection()

        async def work() -> str:
            connection.close()
            await asyncio.sleep(0)
            return "done"

        assert await cancel_on_disconnect(connection.request, work()) == "done"

    asyncio.run(scenario())
