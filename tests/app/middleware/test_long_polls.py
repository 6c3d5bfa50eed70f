"""Requests that wait, in crowds: all others pass between them."""

import asyncio

from starlette.types import Message, Receive, Scope, Send

from app.middleware.long_polls import LongPollMiddleware


async def _receive() -> Message:
    return {"type": "http.request"}


async def _send(message: Message) -> None:
    pass


def test_a_crowd_of_waits_lets_others_by() -> None:
    began: list[str] = []
    answered: list[str] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        began.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        answered.append(scope["path"])

    async def ask_all_at_once() -> None:
        app = LongPollMiddleware(answer)
        asked = [("/jobs/job_1", b"wait=60")] * 100 + [("/classify", b"")]
        scopes = [{"type": "http", "path": path, "query_string": query} for path, query in asked]
        await asyncio.gather(*(app(scope, _receive, _send) for scope in scopes))

    asyncio.run(ask_all_at_once())
    assert len(began) == len(answered) == 101
    assert began[0] == answered[0] == "/classify"
