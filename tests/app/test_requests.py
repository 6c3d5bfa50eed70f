"""What every request passes before its route: hosts, origins, parameters, methods, types, bodies."""

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.routes.classify import EXAMPLE_BODY as CLASSIFY_EXAMPLE
from tests.app.gateway import ask, settings_without_servers


@pytest.mark.parametrize("path", ["/contexts", "/v1/contexts", "/nowhere", "/docs", "/openapi.json", "/contexts/"])
def test_another_name_of_the_service_is_refused(tmp_path: Path, path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.get(path, headers={"host": "evil.example"})
        assert (response.status_code, response.json()["code"]) == (421, "host_not_allowed")

    ask(settings_without_servers(tmp_path), scenario)


def test_slash_at_the_end_leads_nowhere(tmp_path: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        for host in ("127.0.0.1", "localhost"):
            response = await http.get("/contexts/", headers={"host": host})
            assert (response.status_code, response.json()["code"]) == (404, "route_not_found")
            assert "location" not in response.headers

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize("path", ["/jobs/job_1/cancel", "/v1/jobs/job_1/cancel", "/contexts?dry_run=true"])
@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_page_of_another_site_changes_nothing(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post(path, headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "origin_not_allowed")

    ask(settings_without_servers(tmp_path), scenario)


def test_allowed_origin_may_send_json(tmp_path: Path) -> None:
    settings = settings_without_servers(tmp_path).model_copy(update={"allowed_origins": ("https://app.example",)})

    async def scenario(http: httpx.AsyncClient) -> None:
        headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
        allowed = await http.options("/classify", headers={**headers, "access-control-request-headers": "content-type"})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "POST" in allowed.headers["access-control-allow-methods"]

    ask(settings, scenario)


@pytest.mark.parametrize(
    ("method", "path", "param"),
    [
        ("POST", "/contexts?dryrun=true", "/dryrun"),
        ("POST", "/v1/contexts?dryrun=true", "/dryrun"),
        ("POST", "/classify?top_k=1", "/top_k"),
        ("GET", "/contexts?Limit=3", "/Limit"),
        ("GET", "/contexts?meta[team]=cards", "/meta[team]"),
        ("GET", "/contexts?metadata[]=cards", "/metadata[]"),
        ("GET", "/contexts?metadata=cards", "/metadata"),
        ("GET", "/contexts?limit=3&limit=4", "/limit"),
        ("GET", "/jobs?metadata[team]=cards", "/metadata[team]"),
        ("GET", "/jobs/job_1?waits=3", "/waits"),
        ("POST", "/jobs/job_1/cancel?force=true", "/force"),
        ("DELETE", "/contexts/ctx_1?force=true", "/force"),
        ("GET", "/models?limit=3", "/limit"),
        ("GET", "/health/ready?x", "/x"),
    ],
)
def test_unknown_query_parameter_is_refused(tmp_path: Path, method: str, path: str, param: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.request(method, path)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
        assert response.json()["param"] == param

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/contexts", {"GET", "HEAD", "POST"}),
        ("/v1/contexts", {"GET", "HEAD", "POST"}),
        ("/contexts/ctx_1", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("/jobs/job_1", {"GET", "HEAD", "DELETE"}),
        ("/jobs/job_1/cancel", {"POST"}),
        ("/health/live", {"GET", "HEAD"}),
        ("/openapi.json", {"GET", "HEAD"}),
        ("/docs/assets/swagger-ui.css", {"GET", "HEAD"}),
    ],
)
def test_refused_method_is_told_all_that_are_allowed(tmp_path: Path, path: str, allowed: set[str]) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.put(path)
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
        assert set(response.headers["allow"].split(", ")) == allowed

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"min_confidence": False}, "/min_confidence"),
        ({"min_confidence": "0.5"}, "/min_confidence"),
        ({"batch_calibration": 1}, "/batch_calibration"),
        ({"exact": "true"}, "/exact"),
        ({"top_k": 0}, "/top_k"),
        ({"top_k": True}, "/top_k"),
        ({"batch_calibration": "true"}, "/batch_calibration"),
        ({"inputs": "text"}, "/inputs"),
        ({"context": 7}, "/context"),
    ],
)
def test_value_of_another_json_type_is_refused(tmp_path: Path, value: dict[str, Any], field: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post("/classify", json={**CLASSIFY_EXAMPLE, **value})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
        assert response.json()["param"] == field

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_compressed_body_is_read(tmp_path: Path, encoding: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        async def post(content: bytes, encoding: str = encoding) -> tuple[int, str]:
            headers = {"content-type": "application/json", "content-encoding": encoding}
            response = await http.post("/classify", content=content, headers=headers)
            return response.status_code, response.json()["code"]

        whole = gzip.compress(json.dumps(CLASSIFY_EXAMPLE).encode())
        assert await post(whole) == (503, "store_unavailable")
        assert await post(whole[:-9]) == (400, "malformed_request")
        assert await post(b"no gzip") == (400, "malformed_request")
        assert await post(gzip.compress(b" " * (8 * 1024 * 1024 + 1))) == (413, "body_too_large")
        assert await post(whole, "br") == (415, "unsupported_media_type")

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize("path", ["/v1/contexts", "/v1/jobs", "/v1/contexts/intents", "/v1/jobs/job_1"])
def test_every_route_of_an_object_is_also_under_v1(tmp_path: Path, path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        assert (await http.get(path)).json()["code"] == "store_unavailable"

    ask(settings_without_servers(tmp_path), scenario)
