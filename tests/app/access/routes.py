"""Every route of the application with what it declares about access, and how to ask for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from app.config import Settings
from app.main import create_app
from app.routes.guard import GuardedRoute, Needs

#: What serves files or the description of all, for everybody.
PUBLIC_PATHS = {"/openapi.json", "/docs/assets"}


@dataclass(frozen=True)
class Guarded:
    """A route with its declaration."""

    method: str
    path: str
    needs: Needs

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def url(self, **parameters: str) -> str:
        """The path with parameters, ``x`` for those that are not given."""
        path = self.path.replace(":path}", "}")
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        return path.format(**{name: parameters.get(name, "x") for name in names})


def all_routes(routes: list[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes of an application, those of included routers too."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is None:
            yield route
        else:
            yield from all_routes(router.routes)


@cache
def application() -> Any:
    return create_app(Settings())


@cache
def guarded() -> tuple[Guarded, ...]:
    """The routes that need a scope, each method once."""
    found = {}
    for route in all_routes(application().routes):
        if isinstance(route, GuardedRoute) and isinstance(route.access, Needs):
            for method in route.methods or ():
                one = Guarded(method, route.path, route.access)
                found[str(one)] = one
    return tuple(found[key] for key in sorted(found))


def undeclared() -> list[str]:
    """Paths of the routes that do not say who may use them."""
    return [
        str(getattr(route, "path", route))
        for route in all_routes(application().routes)
        if not isinstance(route, GuardedRoute) and getattr(route, "path", None) not in PUBLIC_PATHS
    ]


def changes(route: APIRoute) -> bool:
    return bool((route.methods or set()) - {"GET", "HEAD"})
