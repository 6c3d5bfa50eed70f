"""A server of the contract's routes that answers as the test says; it stands on a real socket."""

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

Answer = Callable[[Request], Awaitable[Response]]


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class StandIn:
    """Answers in the order in which they are given, but for paths that ``always`` get the same; ``url`` is where."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    answers: list[Response | Callable[[], Response]] = field(default_factory=list)
    always: dict[str, Callable[[Seen], Response]] = field(default_factory=dict)

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        seen = Seen(request.method, request.url.path, dict(request.query_params), dict(request.headers), body)
        if request.url.path in self.always:
            return self.always[request.url.path](seen)
        self.seen.append(seen)
        answer = self.answers.pop(0)
        return answer if isinstance(answer, Response) else answer()

    def clear(self) -> None:
        """Forget all."""
        for found in (self.seen, self.answers, self.always):
            found.clear()

    def then(self, *answers: Response | Callable[[], Response]) -> None:
        """Say what is answered next."""
        self.answers += answers


def says(body: Any, status: int = 200, **headers: str) -> Response:
    """A JSON answer."""
    return Response(
        json.dumps(body), status, {name.replace("_", "-"): value for name, value in headers.items()}, "application/json"
    )


def streams(*pieces: str | Exception, media_type: str = "text/event-stream") -> Response:
    """An answer in pieces; an exception among them breaks the connection."""

    async def body() -> Any:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return StreamingResponse(body(), media_type=media_type)


@contextmanager
def standing() -> Iterator[StandIn]:
    """A stand-in that listens until the block ends."""
    stand_in = StandIn()
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    application = Starlette(routes=[Route("/{path:path}", stand_in.answer, methods=methods)])
    config = uvicorn.Config(application, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        stand_in.url = f"http://127.0.0.1:{port}"
        yield stand_in
    finally:
        server.should_exit = True
        thread.join()
