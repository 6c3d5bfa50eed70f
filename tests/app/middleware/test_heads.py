"""HEAD is answered as GET, without the content, and only there."""

import asyncio
from pathlib import Path

import httpx
import pytest
import structlog

from app.config import Settings
from app.contract.access import Scope
from tests.app.access.gateway import Service, serve
from tests.app.gateway_process import gateway_process
from tests.app.records.steps import claim, submit, succeed


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url, models=("tiny",))


def test_head_is_answered_as_get_is(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        key = service.key(Scope.READ)
        succeed(service.records, "intents")
        for path, status in (
            ("/health/live", 200),
            ("/contexts", 200),
            ("/v1/contexts/intents", 200),
            ("/contexts/none", 404),
            ("/contexts?limits=3", 422),
            ("/openapi.json", 200),
            ("/docs", 200),
            ("/docs/assets/swagger-ui.css", 200),
            ("/tenants", 403),
            ("/nowhere", 404),
            ("/classify", 405),
        ):
            with structlog.testing.capture_logs() as lines:
                head = await service.ask(key, "HEAD", path)
            get = await service.ask(key, "GET", path)
            assert (head.status_code, get.status_code, head.content) == (status, status, b""), path
            for name in ("content-type", "cache-control", "allow"):
                assert head.headers.get(name) == get.headers.get(name)
            (line,) = [one for one in lines if one["event"] == "request"]
            assert (line["method"], line["status"]) == ("HEAD", status)
            assert path != "/v1/contexts/intents" or line["route"] == "/contexts/{ref}"
        assert (await service.ask(None, "HEAD", "/contexts")).status_code == 401
        described = (await service.http.get("/openapi.json")).json()["paths"]
        assert not any("head" in operations for operations in described.values())

    serve(settings, scenario)


def test_head_of_a_stream_ends_at_once(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        key = service.key(Scope.READ)
        submit(service.records)
        path, headers = f"/jobs/{claim(service.records).job_id}/events", {"Accept": "text/event-stream"}
        async with asyncio.timeout(30):  # the job goes on
            head = await service.ask(key, "HEAD", path, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"].startswith("text/event-stream")

    serve(settings, scenario)


def test_connection_serves_on_after_a_head(settings: Settings) -> None:
    with gateway_process(settings) as (_, port), httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        for path in ("/contexts", "/health/live", "/docs/assets/swagger-ui.css"):
            head, get = http.head(path), http.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == get.headers["content-length"]
