"""``/webhooks`` as a client sees it."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from tests.app.gateway import ask

HOOK = {"url": "https://example.com/hook"}


@pytest.fixture
def settings(tmp_path: Path, store_url: str, bus_url: str) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url, webhooks="public")


def test_webhook_is_made_listed_and_deleted_and_its_secret_shown_once(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        created = await http.post("/webhooks", json=HOOK)
        assert created.status_code == 201
        assert created.headers["cache-control"] == "no-store"
        webhook = created.json()
        assert webhook.pop("secret").startswith("whsec_")
        assert webhook["events"] == ["job.succeeded", "job.failed", "job.cancelled"]
        assert (await http.get("/webhooks")).json()["data"] == [webhook]
        for _ in range(2):
            assert (await http.delete(f"/webhooks/{webhook['id']}")).status_code == 204
        assert (await http.get("/webhooks")).json()["data"] == []

    ask(settings, scenario)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "ftp://example.com/"},
        {"url": "https://user:secret@example.com/"},
        {"url": "https://example.com/#part"},
        {"url": "nonsense"},
        {"url": "http://10.0.0.1/hook"},
        {"url": "http://0x7f000001/hook"},
        {"url": "http://[::ffff:10.0.0.1]/hook"},
        {"url": "http://localhost/hook"},
        HOOK | {"events": []},
        HOOK | {"events": ["job.started"]},
    ],
)
def test_bad_webhook_is_refused(settings: Settings, body: dict[str, Any]) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.post("/webhooks", json=body)
        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid_request"
        assert (await http.get("/webhooks")).json()["data"] == []

    ask(settings, scenario)


def test_webhooks_are_off_unless_the_operator_wants_them(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.post("/webhooks", json=HOOK)
        assert answer.status_code == 403
        assert answer.json()["code"] == "webhooks_disabled"

    ask(settings.model_copy(update={"webhooks": "off"}), scenario)


def test_webhook_is_made_once_for_each_idempotency_key(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": "once"}
        first = await http.post("/webhooks", json=HOOK, headers=key)
        again = await http.post("/webhooks", json=HOOK, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json() | {"secret": None}, "a secret is shown once"
        other = await http.post("/webhooks", json=HOOK | {"events": ["job.failed"]}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert len((await http.get("/webhooks")).json()["data"]) == 1
        await http.delete(f"/webhooks/{first.json()['id']}")
        gone = await http.post("/webhooks", json=HOOK, headers=key)
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted")

    ask(settings, scenario)
