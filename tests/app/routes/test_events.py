"""``/jobs/{id}/events`` as a client sees it."""

from pathlib import Path

import httpx
import pytest

from app.config import Settings
from app.records.store import Records
from tests.app.gateway import ask
from tests.app.records.steps import FAILURE, claim, submit


@pytest.fixture
def settings(tmp_path: Path, store_url: str, bus_url: str) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


@pytest.fixture
def ended_job(records: Records) -> str:
    submit(records)
    claimed = claim(records)
    records.message(claimed, "resumed after a lost worker", {"attempt": 2}, "warning")
    records.finish_failed(claimed, FAILURE)
    return claimed.job_id


def test_events_are_listed_oldest_first_page_by_page(settings: Settings, ended_job: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        first = (await http.get(f"/jobs/{ended_job}/events", params={"limit": 2})).json()
        assert [event["type"] for event in first["data"]] == ["status", "status"]
        rest = (await http.get(f"/jobs/{ended_job}/events", params={"after": first["next"]})).json()
        assert [(event["type"], event["level"]) for event in rest["data"]] == [
            ("message", "warning"),
            ("status", "error"),
        ]
        assert (rest["has_more"], rest["next"]) == (False, None)

    ask(settings, scenario)


def test_stream_has_the_same_events_with_their_ids(settings: Settings, ended_job: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        headers = {"accept": "text/event-stream", "last-event-id": "2"}
        answer = await http.get(f"/jobs/{ended_job}/events", headers=headers)
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.text.splitlines()
        assert [line for line in lines if line.startswith("id:")] == ["id: 3", "id: 4"]
        assert [line for line in lines if line.startswith("event:")] == ["event: message", "event: status"]

    ask(settings, scenario)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_unknown_job_is_a_404_before_a_stream_begins(settings: Settings, accept: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.get("/jobs/job_none/events", headers={"accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")

    ask(settings, scenario)


@pytest.mark.parametrize("headers", [{"last-event-id": "x"}, {"last-event-id": "-1"}])
def test_id_of_no_event_is_refused(settings: Settings, ended_job: str, headers: dict[str, str]) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        assert (await http.get(f"/jobs/{ended_job}/events", headers=headers)).status_code == 422
        assert (await http.get(f"/jobs/{ended_job}/events", params={"after": "x"})).status_code == 422

    ask(settings, scenario)
