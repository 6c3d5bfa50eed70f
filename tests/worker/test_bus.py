from pathlib import Path
from typing import cast

import redis
import structlog

from app.contract.announcements import ANNOUNCEMENT_SECONDS, KEYS
from app.contract.messages import Announcement, Started
from app.standalone.embedded import EmbeddedServer
from tests.waiting import eventually
from worker.bus import Announcer, WorkerBus


def said(client: redis.Redis) -> list[Announcement]:
    values = cast("list[str]", client.hvals(KEYS[0]))
    return [Announcement.model_validate_json(value) for value in values]


def announcement(stage: str | None = None) -> Announcement:
    return Announcement(worker_id="worker-1", model="tiny", ready=stage is None, stage=stage)


def test_reply_arrives_at_the_channel(bus_url: str, bus_client: redis.Redis) -> None:
    with bus_client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("channel")
        eventually(lambda: bus_client.pubsub_numsub("channel") == [("channel", 1)])
        bus = WorkerBus(bus_url, "here")
        bus.reply("channel", Started(id="batch_1", started_by="worker-1"))
        message = eventually(lambda: pubsub.get_message(timeout=1))
        assert Started.model_validate_json(message["data"]).started_by == "worker-1"
        bus.close()


def test_reply_that_cannot_be_sent_is_dropped(tmp_path: Path) -> None:
    WorkerBus(f"unix://{tmp_path}/none", "here").reply("channel", Started(id="batch_1", started_by="worker-1"))


def test_worker_is_announced_for_a_while_until_it_stops(bus_url: str, bus_client: redis.Redis) -> None:
    bus = WorkerBus(bus_url, "here")
    announcer = Announcer(bus, lambda: [announcement()])
    announcer.start()
    eventually(lambda: said(bus_client) == [announcement()])
    assert all(0 < bus_client.ttl(key) <= ANNOUNCEMENT_SECONDS for key in KEYS)
    announcer.stop()
    assert said(bus_client) == []
    bus.close()


def test_fault_of_ours_is_logged_whole_and_the_next_announcement_comes(bus_url: str, bus_client: redis.Redis) -> None:
    bus, faults = WorkerBus(bus_url, "here"), [KeyError("model")]

    def describe() -> list[Announcement]:
        if faults:
            raise faults.pop()
        return [announcement()]

    with structlog.testing.capture_logs() as lines:
        announcer = Announcer(bus, describe)
        announcer.start()
        eventually(lambda: lines)
        announcer.announce_now()
        eventually(lambda: said(bus_client) == [announcement()])
        announcer.stop()
    assert [(line["event"], line["log_level"], type(line["exc_info"])) for line in lines] == [
        ("announcing_failed", "error", KeyError)
    ]
    bus.close()


def test_every_stage_is_announced_at_once(bus_url: str, bus_client: redis.Redis) -> None:
    stages = ["loading"]
    bus = WorkerBus(bus_url, "here")
    announcer = Announcer(bus, lambda: [announcement(stages[-1])])
    announcer.start()
    for stage in ("dequantising", "loading again"):
        stages.append(stage)
        announcer.announce_now()
        eventually(lambda: [one.stage for one in said(bus_client)] == [stages[-1]])
    announcer.stop()
    bus.close()


def test_worker_is_announced_again_after_a_restart_of_the_bus(another_server: EmbeddedServer) -> None:
    bus = WorkerBus(another_server.url, "here")
    announcer = Announcer(bus, lambda: [announcement()])
    announcer.start()
    for _ in range(2):
        with redis.Redis.from_url(another_server.url, decode_responses=True) as client:
            eventually(lambda: said(client) == [announcement()])
        another_server.stop()
        another_server.start()
        eventually(another_server.answers)
    announcer.stop()
    bus.close()
