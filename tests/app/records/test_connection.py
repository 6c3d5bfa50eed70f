"""A store that does not answer, refuses to write, or was started again."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
import redis

from app.records.connection import StoreUnavailable, connect
from app.records.store import Records
from app.standalone.embedded import EmbeddedServer
from tests.app.records.steps import REPORT, claim, content, submit
from tests.submissions import EXAMPLES, submission
from tests.waiting import eventually


def test_store_that_is_down_is_unavailable(tmp_path: Path) -> None:
    client = connect(f"unix://{tmp_path}/none")
    records = Records(client)
    tenant = records.of("default")
    for ask in (
        records.ping,
        records.sweep,
        lambda: tenant.contexts.get("ctx_1"),
        lambda: tenant.contexts.named(1),
        lambda: tenant.jobs.events("job_1"),
    ):
        with pytest.raises(StoreUnavailable):
            ask()
    client.close()


def test_store_that_refuses_writes_is_unavailable_and_nothing_is_stored(tmp_path: Path) -> None:
    server = EmbeddedServer.store(tmp_path)
    server.start()
    try:
        eventually(server.answers)
        client = connect(server.url)
        contexts = Records(client).of("default").contexts
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            contexts.submit(submission("intents"))
        client.config_set("maxmemory", 0)
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable):
            contexts.submit(submission("intents"))
        client.replicaof("NO", "ONE")
        assert content(client) == {}
        client.close()
    finally:
        server.stop()


def test_store_that_runs_a_long_script_is_unavailable_meanwhile(own_store: EmbeddedServer) -> None:
    client, other = connect(own_store.url), connect(own_store.url)
    records = Records(client)
    records.ping()
    client.config_set("busy-reply-threshold", 1)
    script = Thread(target=_run_until_killed, args=(other,))
    script.start()
    try:
        eventually(lambda: _refused(records.sweep))
    finally:
        client.script_kill()
        script.join()
    records.ping()
    client.close()
    other.close()


def _run_until_killed(client: redis.Redis) -> None:
    with suppress(redis.ResponseError):
        client.eval("while true do end", 0)


def _refused(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except StoreUnavailable:
        return True
    return False


def test_records_survive_a_restart_of_the_store(tmp_path: Path) -> None:
    server = EmbeddedServer.store(tmp_path)
    server.start()
    try:
        eventually(server.answers)
        client = connect(server.url)
        records = Records(client)
        submit(records, "intents")
        claimed = claim(records)
        server.stop()
        server.start()
        eventually(server.answers)
        assert records.beat(claimed) == "held"
        assert records.finish_succeeded(claimed, "address", REPORT, {}) == "succeeded"
        assert claimed.spec.examples == EXAMPLES
        client.close()
    finally:
        server.stop()
