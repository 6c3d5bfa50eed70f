"""``GET /metrics`` of a gateway on a real store and bus, read by Prometheus' own parser."""

import asyncio
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from app.config import Settings
from app.main import create_app
from app.records.store import Records, TenantRecords
from tests.submissions import submission

MODEL = "tiny"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(settings: Settings, *paths: str, method: str = "GET") -> Samples:
    """The samples of a scrape after requests of ``paths``."""

    async def whole() -> str:
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as http,
        ):
            for path in paths:
                await http.request(method, path)
            answer = await http.get("/metrics")
            assert answer.status_code == 200
            return answer.text

    families = text_string_to_metric_families(asyncio.run(whole()))
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def settings_for(folder: Path, store_url: str, bus_url: str) -> Settings:
    return Settings(data_dir=folder, store_url=store_url, bus_url=bus_url, models=(MODEL,))


def test_requests_are_counted_by_route_and_never_by_what_a_client_chose(
    tmp_path: Path, store_url: str, bus_url: str
) -> None:
    samples = scraped(settings_for(tmp_path, store_url, bus_url), "/jobs/job_1", "/v1/jobs/job_2", "/no/such/route")
    assert of(samples, "contextune_requests_total", method="GET", route="/jobs/{job_id}", status="404") == 2
    assert of(samples, "contextune_requests_total", method="GET", route="none", status="404") == 1
    assert of(samples, "contextune_request_seconds_count", route="/jobs/{job_id}") == 2


def test_methods_of_a_clients_own_are_counted_as_one(tmp_path: Path, store_url: str, bus_url: str) -> None:
    samples = scraped(settings_for(tmp_path, store_url, bus_url), "/jobs/job_1", "/no/such/route", method="BREW")
    assert of(samples, "contextune_requests_total", method="_OTHER", route="/jobs/{job_id}", status="405") == 1
    assert "BREW" not in str(samples)


def test_queues_of_the_store_are_read_at_each_scrape(
    tmp_path: Path, store_url: str, bus_url: str, records: Records, tenant: TenantRecords
) -> None:
    for _ in range(3):
        tenant.contexts.submit(submission(model=MODEL))
    claim = records.claim([MODEL], "worker-1")
    assert claim
    _, cancelled = tenant.contexts.submit(submission(model=MODEL))
    tenant.jobs.cancel(cancelled.id)
    samples = scraped(settings_for(tmp_path, store_url, bus_url))
    assert of(samples, "contextune_jobs", model=MODEL, status="queued") == 2
    assert of(samples, "contextune_jobs", model=MODEL, status="running") == 1
    assert of(samples, "contextune_jobs_ended_total", status="cancelled") == 1
    assert of(samples, "contextune_queued_seconds", model=MODEL) > 0
    assert of(samples, "contextune_store_up") == 1


def test_scrape_without_a_store_says_so(tmp_path: Path, bus_url: str) -> None:
    settings = settings_for(tmp_path, f"unix://{tmp_path}/no-store", bus_url)
    samples = scraped(settings.model_copy(update={"metrics_open": True}))  # without the store nobody is known
    assert of(samples, "contextune_store_up") == 0
    assert not any(name == "contextune_jobs" for name, _ in samples)
