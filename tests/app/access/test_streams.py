"""Streams of events, and waits for jobs, end for readers who may have them no longer."""

import asyncio

from app.config import Settings
from app.contract.access import Scope
from tests.app.access.gateway import Service, serve
from tests.app.records.steps import claim, submit
from tests.waiting import eventually


def test_stream_of_a_key_that_is_revoked_ends_before_its_next_event(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        admin, reader = service.key(Scope.ADMIN), service.key(Scope.READ)
        (key, _) = (await service.ask(admin, "GET", "/keys")).json()["data"]
        submit(service.records)
        claimed = claim(service.records)
        path, headers = f"/jobs/{claimed.job_id}/events", {"Accept": "text/event-stream"}
        reading = asyncio.create_task(service.ask(reader, "GET", path, headers=headers))
        await asyncio.to_thread(eventually, lambda: service.app.state.gateway.streams.watched == 1)
        await asyncio.sleep(0.5)
        assert (await service.ask(admin, "DELETE", f"/keys/{key['id']}")).status_code == 204
        service.records.message(claimed, "told to nobody", level="info")
        async with asyncio.timeout(30):  # the job goes on
            told = (await reading).text
        assert '"running"' in told
        assert "told to nobody" not in told

    serve(settings, scenario)


def test_wait_of_a_key_that_is_revoked_tells_nothing_of_the_job(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        admin, reader = service.key(Scope.ADMIN), service.key(Scope.READ)
        (key, _) = (await service.ask(admin, "GET", "/keys")).json()["data"]
        _, job_id = submit(service.records)
        waiting = asyncio.create_task(service.ask(reader, "GET", f"/jobs/{job_id}?wait=60"))
        await asyncio.to_thread(eventually, lambda: service.app.state.gateway.waits.watched == 1)
        assert (await service.ask(admin, "DELETE", f"/keys/{key['id']}")).status_code == 204
        await asyncio.to_thread(service.records.of("default").jobs.cancel, job_id)
        async with asyncio.timeout(30):
            refused = await waiting
        assert (refused.status_code, refused.json()["code"]) == (401, "key_invalid")
        assert "cancelled" not in refused.text

    serve(settings, scenario)


def test_stream_of_an_open_service_ends_once_the_first_key_is_made(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        submit(service.records)
        claimed = claim(service.records)
        path, headers = f"/jobs/{claimed.job_id}/events", {"Accept": "text/event-stream"}
        reading = asyncio.create_task(service.ask(None, "GET", path, headers=headers))
        await asyncio.to_thread(eventually, lambda: service.app.state.gateway.streams.watched == 1)
        await asyncio.sleep(0.5)
        body = {"name": "first", "scopes": ["admin"]}
        assert (await service.ask(None, "POST", "/keys", json=body)).status_code == 201
        service.records.message(claimed, "told to nobody", level="info")
        async with asyncio.timeout(30):  # the job goes on
            assert "told to nobody" not in (await reading).text

    serve(settings, scenario)
