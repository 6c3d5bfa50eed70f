"""``/docs``: the description of the interface as a page whose assets come from the service itself, not the Internet."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.routes.guard import PUBLIC, GuardedRoute

ASSETS_PATH: Final = "/docs/assets"

router = APIRouter(include_in_schema=False, route_class=GuardedRoute)


def assets() -> StaticFiles:
    """Swagger UI, to be mounted at `ASSETS_PATH`."""
    return StaticFiles(packages=[("fastapi_swagger", "resources")])


@router.get("/docs", dependencies=[PUBLIC])
async def show(request: Request) -> HTMLResponse:
    """Show the description with Swagger UI."""
    root = request.scope.get("root_path", "").rstrip("/")
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="Contextune",
        swagger_js_url=f"{root}{ASSETS_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{ASSETS_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{root}{ASSETS_PATH}/favicon-32x32.png",
    )
