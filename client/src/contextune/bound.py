"""Turns the functions of `contextune.calls` into methods, so that each route's arguments are written once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from contextune.async_connection import AsyncConnection
from contextune.connection import Connection
from contextune.models.listing import Page
from contextune.protocol.call import Call
from contextune.protocol.paging import Paging

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


class Routes:
    """Routes of one noun."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


class AsyncRoutes:
    """Routes of one noun, to be awaited."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection


def method(call: Callable[P, Call[T]]) -> Callable[Concatenate[Routes, P], T]:
    """A method that sends the call."""

    @wraps(call)
    def send(self: Routes, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._connection.send(call(*args, **kwargs))

    return send


def handled(call: Callable[P, Call[T]], then: Callable[[T, Connection], U]) -> Callable[Concatenate[Routes, P], U]:
    """A method that sends the call and makes a handle of the answer."""

    @wraps(call)
    def send(self: Routes, /, *args: P.args, **kwargs: P.kwargs) -> U:
        return then(self._connection.send(call(*args, **kwargs)), self._connection)

    return send


def listing(page: Callable[P, Call[Page[T]]]) -> Callable[Concatenate[Routes, P], Iterator[T]]:
    """A method that goes through a list; ``limit`` is that of the whole."""

    @wraps(page)
    def iterate(self: Routes, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._connection.iterate(Paging(page(*args, **kwargs)))

    return iterate


def handled_listing(
    page: Callable[P, Call[Page[T]]], then: Callable[[T, Connection], U]
) -> Callable[Concatenate[Routes, P], Iterator[U]]:
    """A method that goes through a list, each item of which becomes a handle; ``limit`` is that of the whole."""

    @wraps(page)
    def iterate(self: Routes, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[U]:
        items = self._connection.iterate(Paging(page(*args, **kwargs)))
        return (then(item, self._connection) for item in items)

    return iterate


def async_method(call: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncRoutes, P], Awaitable[T]]:
    """A method that sends the call, to be awaited."""

    @wraps(call)
    async def send(self: AsyncRoutes, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._connection.send(call(*args, **kwargs))

    return send


def async_handled(
    call: Callable[P, Call[T]], then: Callable[[T, AsyncConnection], U]
) -> Callable[Concatenate[AsyncRoutes, P], Awaitable[U]]:
    """A method that sends the call and makes a handle of the answer, to be awaited."""

    @wraps(call)
    async def send(self: AsyncRoutes, /, *args: P.args, **kwargs: P.kwargs) -> U:
        return then(await self._connection.send(call(*args, **kwargs)), self._connection)

    return send


def async_listing(page: Callable[P, Call[Page[T]]]) -> Callable[Concatenate[AsyncRoutes, P], AsyncIterator[T]]:
    """A method that goes through a list; ``limit`` is that of the whole."""

    @wraps(page)
    def iterate(self: AsyncRoutes, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._connection.iterate(Paging(page(*args, **kwargs)))

    return iterate


def async_handled_listing(
    page: Callable[P, Call[Page[T]]], then: Callable[[T, AsyncConnection], U]
) -> Callable[Concatenate[AsyncRoutes, P], AsyncIterator[U]]:
    """A method that goes through a list, each item of which becomes a handle; ``limit`` is that of the whole."""

    @wraps(page)
    async def iterate(self: AsyncRoutes, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[U]:
        async for item in self._connection.iterate(Paging(page(*args, **kwargs))):
            yield then(item, self._connection)

    return iterate
