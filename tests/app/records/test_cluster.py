"""A store in cluster mode: two nodes, of which the one that is asked does not have our keys."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.records.connection import connect
from app.records.limits import Retention
from app.records.requirements import bus_refusal, refusal
from app.records.store import Records
from app.standalone.embedded import STORE_OPTIONS, find_binary
from tests.app.records.steps import REPORT, claim, context_of, submit, succeed
from tests.ports import free_port
from tests.waiting import eventually


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[int]:
    """Port of the node that has none of the slots."""
    processes: list[subprocess.Popen[bytes]] = []
    clients: list[Any] = []
    try:
        for name in ("has-none", "has-all"):
            folder, port = tmp_path / name, free_port(and_higher_by=10_000)  # of the nodes' own bus
            folder.mkdir()
            cluster = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--save", "")
            command = [str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
            processes.append(subprocess.Popen([*command, *cluster, *STORE_OPTIONS], stdout=subprocess.DEVNULL))
            clients.append(redis.Redis(port=port, decode_responses=True))
            eventually(lambda: answers(clients[-1]))
        clients[1].execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", clients[1].connection_pool.connection_kwargs["port"])
        eventually(lambda: all(one.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for one in clients), 60)
        yield clients[0].connection_pool.connection_kwargs["port"]
    finally:
        for client in clients:
            client.close()
        for process in processes:
            process.kill()
            process.wait()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_store_in_cluster_mode_serves_whichever_node_is_asked(asked: int) -> None:
    url = f"redis://127.0.0.1:{asked}/0"
    assert refusal(url) is None
    client = connect(url)
    records = Records(client, retention=Retention(jobs=-1))
    tenant = records.of("default")
    context_id = succeed(records, "intents", metadata={"team": "cards"})
    submit(records, "intents")
    claimed = claim(records)
    assert records.beat(claimed, {"step": 1}, 1.0, {"loss": 0.5}) == "held"
    assert records.finish_succeeded(claimed, "address", REPORT, {}) == "succeeded"
    assert context_of(records, context_id).context.version == 1
    assert [len(tenant.contexts.page(10).data), [one.name for one in tenant.contexts.named(5)]] == [2, ["intents"]]
    assert len(tenant.jobs.events(claimed.job_id)) == 4
    assert tenant.contexts.delete(context_id)
    assert (records.sweep(), records.retire()) == ({}, 2)
    client.close()


def test_store_in_cluster_mode_has_no_other_database(asked: int) -> None:
    assert "database 0 alone" in (refusal(f"redis://127.0.0.1:{asked}/1") or "")


def test_bus_in_cluster_mode_is_refused(asked: int, bus_url: str) -> None:
    assert "cluster mode" in (bus_refusal(f"redis://127.0.0.1:{asked}/0") or "")
    assert bus_refusal(bus_url) is None
