"""When no key is needed, and the first key."""

import asyncio
import os
import stat
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app.access.first_key import FILE_NAME, ensure_first_key
from app.access.secrets import hash_of, new_secret
from app.config import Settings
from app.contract.access import ALL_SCOPES, KeyLimits, Scope
from app.records.store import Records
from tests.app.access.gateway import Service, serve
from tests.waiting import eventually

CHOSEN = "b1946ac92492d2347c6235b4d2611184a5e1d0c97b3f28640fd1c7a9e3b58206"


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def eventually_there(path: Path) -> str:
    await asyncio.to_thread(eventually, path.exists)
    return (await asyncio.to_thread(path.read_text)).strip()


def test_on_a_loopback_address_no_key_is_needed_until_one_was_made(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        for secret in (None, "sk-of-another-service"):  # which may come here by mistake
            assert (await service.ask(secret, "GET", "/contexts")).status_code == 200
        made = await service.ask(None, "POST", "/keys", json={"name": "laptop", "scopes": list(ALL_SCOPES)})
        assert made.status_code == 201
        assert code(await service.ask(None, "GET", "/contexts")) == (401, "key_required")  # at once
        secret = made.json()["key"]
        assert (await service.ask(secret, "GET", "/contexts")).status_code == 200
        assert (await service.ask(secret, "DELETE", f"/keys/{made.json()['id']}")).status_code == 204
        assert code(await service.ask(None, "GET", "/contexts")) == (401, "key_required")  # for good

    serve(settings, scenario)


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"])
def test_what_a_proxy_passed_on_needs_a_key(settings: Settings, header: str) -> None:
    async def scenario(service: Service) -> None:
        answer = await service.ask(None, "GET", "/contexts", headers={header: "203.0.113.1"})
        assert code(answer) == (401, "key_required")
        assert answer.headers["www-authenticate"] == 'Bearer realm="contextune"'
        assert (await service.ask(None, "GET", "/contexts")).status_code == 200

    serve(settings, scenario)


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "0.0.0.0"},
        {"host": "192.0.2.7"},
        {"trusted_proxies": (ip_network("10.0.0.0/8"),)},
    ],
)
def test_elsewhere_the_first_start_makes_a_key_and_shows_it_once(
    settings: Settings, changes: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings.model_copy(update=changes)
    file = settings.data_dir / FILE_NAME

    async def first(service: Service) -> None:
        assert code(await service.ask(None, "GET", "/contexts")) == (401, "key_required")
        secret = await eventually_there(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (key,) = (await service.ask(secret, "GET", "/keys")).json()["data"]
        assert (key["scopes"], key["tenant"], key["expires_at"]) == (list(ALL_SCOPES), "default", None)

    async def second(service: Service) -> None:
        assert len((await service.ask(file.read_text().strip(), "GET", "/keys")).json()["data"]) == 1

    serve(settings, first)
    output = "".join(capfd.readouterr())
    assert output.count(file.read_text().strip()) == 1
    serve(settings, second)
    assert file.read_text().strip() not in "".join(capfd.readouterr())
    assert [one.name for one in settings.data_dir.iterdir() if one.name.startswith(FILE_NAME)] == [FILE_NAME]


def test_the_first_key_can_be_kept_out_of_the_log(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario(service: Service) -> None:
        await eventually_there(settings.data_dir / FILE_NAME)

    serve(settings.model_copy(update={"host": "0.0.0.0", "show_first_key": False}), scenario)
    assert (settings.data_dir / FILE_NAME).read_text().strip() not in "".join(capfd.readouterr())


def test_a_start_whose_answer_of_the_store_was_lost_ends_with_the_key_that_the_store_has(
    settings: Settings, records: Records
) -> None:
    settings = settings.model_copy(update={"host": "0.0.0.0"})
    ensure_first_key(settings, records)
    file = settings.data_dir / FILE_NAME
    file.rename(file.with_name(f"{FILE_NAME}.{os.getpid()}"))  # as a crash leaves it
    ensure_first_key(settings, records)
    assert records.access.find(hash_of(file.read_text().strip())).found


@pytest.mark.parametrize("left", ["", "ctk_cut-off-by-a-full-disk"])
def test_a_secret_that_was_not_written_whole_becomes_no_key(settings: Settings, records: Records, left: str) -> None:
    settings = settings.model_copy(update={"host": "0.0.0.0"})
    file = settings.data_dir / FILE_NAME
    file.with_name(f"{FILE_NAME}.{os.getpid()}").write_text(left)
    ensure_first_key(settings, records)
    assert records.access.find(hash_of(left)).found is None
    assert records.access.find(hash_of(file.read_text().strip())).found


def test_a_key_that_monitoring_was_given_before_takes_no_first_key_from_anybody(
    settings: Settings, records: Records
) -> None:
    given = ("key_1", hash_of("monitoring"), "default", "prometheus", (Scope.OPERATOR,), KeyLimits(), None)
    assert records.access.create_key(*given)
    ensure_first_key(settings.model_copy(update={"host": "0.0.0.0"}), records)
    secret = (settings.data_dir / FILE_NAME).read_text().strip()
    found = records.access.find(hash_of(secret)).found
    assert found is not None
    assert found.key.scopes == ALL_SCOPES


def test_where_the_key_cannot_be_written_none_is_made(settings: Settings, records: Records) -> None:
    blocked = settings.data_dir / "blocked"
    blocked.write_text("a file")
    with pytest.raises(OSError, match="blocked"):
        ensure_first_key(settings.model_copy(update={"host": "0.0.0.0", "data_dir": blocked}), records)
    assert not records.access.find("").any_made


def test_a_configured_key_is_needed_on_any_address_and_replaces_its_last_value(settings: Settings) -> None:
    async def works(service: Service, secret: str) -> None:
        await asyncio.to_thread(eventually, lambda: service.records.access.find(hash_of(secret)).found is not None)
        assert (await service.ask(secret, "GET", "/contexts")).status_code == 200

    async def first(service: Service) -> None:
        assert code(await service.ask(None, "GET", "/contexts")) == (401, "key_required")
        await works(service, CHOSEN)
        service.key(Scope.READ)

    async def second(service: Service) -> None:
        await works(service, other)
        assert code(await service.ask(CHOSEN, "GET", "/contexts")) == (401, "key_invalid")
        assert len((await service.ask(other, "GET", "/keys")).json()["data"]) == 2

    other = new_secret()
    serve(settings.model_copy(update={"admin_key": SecretStr(CHOSEN)}), first)
    serve(settings.model_copy(update={"admin_key": SecretStr(other)}), second)
    assert not (settings.data_dir / FILE_NAME).exists()


def test_with_auth_off_nobody_needs_a_key(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        service.key()
        answer = await service.ask(None, "GET", "/contexts", headers={"X-Forwarded-For": "203.0.113.1"})
        assert answer.status_code == 200

    serve(settings.model_copy(update={"auth": "off", "host": "0.0.0.0"}), scenario)
    assert not (settings.data_dir / FILE_NAME).exists()


def test_health_and_docs_need_no_key(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        service.key()
        for path in ("/health/live", "/health/ready", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
            assert (await service.ask(None, "GET", path)).status_code in (200, 503)  # the bus may not be found yet

    serve(settings, scenario)
