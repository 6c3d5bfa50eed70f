import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from app.errors import DomainError
from app.middleware.bodies import ArrivingBody, BodyMemory, BodyMiddleware
from app.middleware.request_ids import RequestIdMiddleware
from app.problems import install_error_handlers

LIMIT = 1024 * 1024
JSON = {"content-type": "application/json"}


def limit(_method: str, path: str) -> int:
    return 10 if path == "/little" else LIMIT


def application(memory: BodyMemory) -> FastAPI:
    """Answers with the length of the body; `/ignore` does not read it."""
    app = FastAPI()
    install_error_handlers(app)
    app.add_middleware(BodyMiddleware, memory=memory, limit=limit, folder=Path())
    app.add_middleware(RequestIdMiddleware)

    @app.post("/ignore")
    async def ignore() -> str:
        return "ignored"

    @app.post("/{path}")
    async def count(request: Request) -> int:
        return len(await request.body())

    return app


def ask(content: Any = None, path: str = "/any", headers: dict[str, str] | None = None) -> httpx.Response:
    async def request() -> httpx.Response:
        memory = BodyMemory(LIMIT)
        transport = httpx.ASGITransport(application(memory))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            response = await http.post(path, content=content, headers=headers)
        assert memory.held == 0
        return response

    return asyncio.run(request())


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


def test_body_of_just_the_limit_passes_whole() -> None:
    assert ask(b"x" * LIMIT).json() == LIMIT
    assert ask(chunks(8, LIMIT // 8)).json() == LIMIT


@pytest.mark.parametrize("declared", [True, False])
def test_larger_body_is_413(declared: bool) -> None:
    response = ask(b"x" * (LIMIT + 1) if declared else chunks(9, LIMIT // 8))
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_body_larger_than_it_was_declared_is_413() -> None:
    assert ask(chunks(9, LIMIT // 8), headers={**JSON, "content-length": "10"}).status_code == 413


def test_route_has_a_limit_of_its_own() -> None:
    assert ask(b"x" * 10, "/little").json() == 10
    assert ask(b"x" * 11, "/little").status_code == 413


def test_body_that_no_route_reads_is_not_waited_for() -> None:
    assert ask(chunks(9, LIMIT // 8), "/ignore").json() == "ignored"


def test_slow_body_is_408_and_the_connection_ends() -> None:
    never = asyncio.Event
    answered: list[Message] = []

    async def scenario() -> None:
        arrived = [{"type": "http.request", "body": b"{", "more_body": True}]
        wait = never()

        async def receive() -> Message:
            if arrived:
                return arrived.pop()
            await wait.wait()
            raise AssertionError

        async def send(message: Message) -> None:
            answered.append(message)

        scope = {"type": "http", "method": "POST", "path": "/any", "query_string": b"", "headers": []}
        await application(BodyMemory(LIMIT, grace_seconds=0.05))(scope, receive, send)

    asyncio.run(scenario())
    assert answered[0]["status"] == 408
    assert (b"connection", b"close") in answered[0]["headers"]


# -- memory -----------------------------------------------------------------------------------------------------------


def test_body_waits_for_room_and_the_oldest_never_does() -> None:
    async def scenario() -> None:
        memory = BodyMemory(LIMIT)
        old, young = object(), object()
        await memory.grow(old, LIMIT // 2)
        await memory.grow(young, LIMIT // 2)
        waiting = asyncio.create_task(memory.grow(young, LIMIT))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await memory.grow(old, 2 * LIMIT)
        assert not waiting.done()
        await memory.release(old)
        await waiting
        assert memory.held == LIMIT
        await memory.release(young)
        assert memory.held == 0

    asyncio.run(scenario())


def test_body_that_finds_no_room_in_time_is_refused_and_says_when_to_try_again() -> None:
    async def scenario() -> None:
        memory = BodyMemory(LIMIT, wait_seconds=0.05)
        await memory.grow("old", LIMIT)
        with pytest.raises(DomainError) as caught:
            await memory.grow("young", LIMIT)
        assert (caught.value.code, caught.value.retry_after) == ("overloaded", 0.05)

    asyncio.run(scenario())


def test_small_body_never_waits() -> None:
    async def scenario() -> None:
        memory = BodyMemory(LIMIT)
        await memory.grow("old", LIMIT)
        await asyncio.wait_for(memory.grow("small", 64 * 1024), 1)

    asyncio.run(scenario())


def test_one_body_at_a_time_is_written_to_a_file(tmp_path: Path) -> None:
    async def receive() -> Message:
        raise AssertionError

    async def scenario() -> None:
        memory = BodyMemory(LIMIT)
        first, second = (ArrivingBody(receive, memory, LIMIT, tmp_path) for _ in range(2))
        await first.spool()
        waiting = asyncio.create_task(second.spool())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await first.release()
        assert await asyncio.wait_for(waiting, 5)
        await second.release()

    asyncio.run(scenario())
