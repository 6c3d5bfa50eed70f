"""The passwords and users of store and bus, as compose has them, on real servers."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from app.config import Settings
from app.contract.messages import PlanReply
from app.contract.names import plan_queue
from app.records.connection import connect
from app.records.store import Records
from app.routes.context_creation import EXAMPLE_BODY
from app.standalone.embedded import STORE_OPTIONS, find_binary
from tests.app.access.gateway import Service, serve
from tests.app.records.steps import REPORT
from tests.app.standin import MODEL, StandIn
from tests.ports import free_port
from tests.submissions import plan
from tests.waiting import eventually

SCRIPT = Path(__file__).parents[2] / "docker" / "passwords.sh"


def make_passwords(folder: Path) -> dict[str, str]:
    """What the script leaves in the folder, by path."""
    for role in ("store", "bus", "gateway", "worker"):
        (folder / role).mkdir(parents=True, exist_ok=True)
    subprocess.run(["sh", str(SCRIPT), str(folder)], check=True)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Servers:
    """Ports of store and bus, and the URLs of each role by name of the variable."""

    ports: dict[str, int]
    urls: dict[str, dict[str, str]]

    def client(self, server: str, user: str | None = None, password: str = "any") -> redis.Redis:
        return redis.Redis(port=self.ports[server], username=user, password=password if user else None)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Store and bus with the users of the script."""
    folder = tmp_path_factory.mktemp("passwords")
    made = make_passwords(folder)
    ports = {server: free_port() for server in ("store", "bus")}
    options = {"store": STORE_OPTIONS, "bus": ("--appendonly", "no")}
    processes = [
        subprocess.Popen(
            [
                *(
                    str(find_binary()),
                    "--port",
                    str(port),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--loglevel",
                    "warning",
                ),
                *("--dir", str(folder / server), "--aclfile", str(folder / server / "users.acl"), *options[server]),
            ]
        )
        for server, port in ports.items()
    ]
    urls: dict[str, dict[str, str]] = {}
    for role in ("gateway", "worker"):
        named = re.findall(r"export (\w+)=(\S+)", made[f"{role}/urls"])
        urls[role] = {name: re.sub(r"@(\w+):6379", lambda m: f"@127.0.0.1:{ports[m[1]]}", url) for name, url in named}
    running = Servers(ports, urls)
    for server in ports:
        eventually(lambda server=server: answers(running.client(server, "health")))  # type: ignore[misc]
    yield running
    for process in processes:
        process.terminate()
        process.wait()


def answers(client: redis.Redis) -> bool:
    with client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def test_passwords_are_made_once_and_each_is_its_own(tmp_path: Path) -> None:
    first = make_passwords(tmp_path)
    assert sorted(first) == ["bus/users.acl", "gateway/urls", "store/users.acl", "worker/urls"]
    passwords = re.findall(r":([0-9a-f]{64})@", "".join(first.values()))
    assert len(set(passwords)) == 4
    assert not [p for p in passwords if p in first["bus/users.acl"] + first["store/users.acl"]]
    assert make_passwords(tmp_path) == first


def test_a_start_that_was_cut_off_is_made_anew_as_a_whole(tmp_path: Path) -> None:
    make_passwords(tmp_path)
    (tmp_path / "bus" / "users.acl").rename(tmp_path / "bus" / "new")
    made = make_passwords(tmp_path)
    assert made["bus/users.acl"].count("user gateway") == 1
    assert "bus/new" not in made


@pytest.mark.parametrize("server", ["store", "bus"])
def test_nobody_gets_in_without_a_password_but_for_a_ping(servers: Servers, server: str) -> None:
    with servers.client(server) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with servers.client(server, "gateway", "wrong") as guess, pytest.raises(redis.AuthenticationError):
        guess.ping()
    with servers.client(server, "health") as health:
        assert health.ping()
        for command in (("GET", "a"), ("INFO",), ("PUBLISH", "a", "b"), ("KEYS", "*")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                health.execute_command(*command)


@pytest.mark.parametrize("role", ["gateway", "worker"])
def test_a_role_administers_no_server_and_the_stores_has_no_other_keys(servers: Servers, role: str) -> None:
    urls = servers.urls[role]
    for name in ("CONTEXTUNE_STORE_URL", "CONTEXTUNE_BUS_URL"):
        with redis.Redis.from_url(urls[name]) as client:
            for command in (("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "1"), ("ACL", "LIST"), ("SHUTDOWN",)):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)
    with redis.Redis.from_url(urls["CONTEXTUNE_STORE_URL"]) as store:
        with pytest.raises(redis.exceptions.NoPermissionError):
            store.set("another-application", 1)
        with pytest.raises(redis.exceptions.ResponseError, match="permission"):
            store.eval("return redis.call('GET', 'another-application')", 0)


def test_gateway_and_worker_work_with_the_users_that_they_have(servers: Servers, tmp_path: Path) -> None:
    gateway, worker = servers.urls["gateway"], servers.urls["worker"]
    settings = Settings(
        data_dir=tmp_path,
        store_url=gateway["CONTEXTUNE_STORE_URL"],
        bus_url=gateway["CONTEXTUNE_BUS_URL"],
        models=(MODEL,),
    )

    async def scenario(service: Service) -> None:
        secret = service.key(requests_per_minute=3)
        with StandIn(worker["CONTEXTUNE_BUS_URL"]) as standin:
            standin.announce()
            posting = asyncio.create_task(service.ask(secret, "POST", "/contexts", json=EXAMPLE_BODY))
            request = await asyncio.to_thread(standin.take, of=plan_queue)
            standin.say(request, PlanReply(id=request["id"], plan=plan()))
            created = await posting
        assert created.status_code == 202, created.text
        job = created.json()["job"]["id"]
        waiting = asyncio.create_task(service.ask(secret, "GET", f"/jobs/{job}?wait=30"))
        await asyncio.to_thread(tune, worker["CONTEXTUNE_STORE_URL"], settings.artifacts_url)
        assert (await waiting).json()["status"] == "succeeded"
        assert [(await service.ask(secret, "GET", "/contexts")).status_code for _ in range(2)] == [200, 429]

    serve(settings, scenario)


def tune(store_url: str, artifacts_url: str) -> None:
    """What a worker does with the store."""
    client = connect(store_url)
    records = Records(client, artifacts_url=artifacts_url)
    work = records.claim([MODEL], "worker-1")
    assert work is not None
    assert records.beat(work, {"step": 1}, 1.0, {"loss": 0.5}) == "held"
    assert records.finish_succeeded(work, "address", REPORT, {}) == "succeeded"
    client.close()
