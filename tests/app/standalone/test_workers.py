"""Workers alone, as the container for GPUs starts them."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import redis

from app.contract.announcements import KEYS
from app.contract.messages import Announcement
from tests.waiting import eventually
from tests.worker.tiny import causal_model, tokenizer

COMMAND = [sys.executable, "-P", "-m", "app.standalone.workers"]


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTEXTUNE_")}
    return kept | {f"CONTEXTUNE_{name}": value for name, value in settings.items()}


def devices_that_are_ready(bus_url: str) -> list[str]:
    with redis.Redis.from_url(bus_url, decode_responses=True) as client:
        announced = [Announcement.model_validate_json(text) for text in client.hvals(KEYS[0])]
    return [one.device.id for one in announced if one.ready and one.device is not None]


def test_each_device_has_a_worker_that_is_started_again_when_it_ends(
    store_url: str, bus_url: str, tmp_path: Path
) -> None:
    causal_model().save_pretrained(tmp_path / "tiny")
    tokenizer().save_pretrained(tmp_path / "tiny")
    models = json.dumps({"tiny": {"path": str(tmp_path / "tiny")}})
    urls = {"STORE_URL": store_url, "BUS_URL": bus_url}
    settings = environment(**urls, MODELS=models, DATA_DIR=str(tmp_path), DEVICES="cpu", ENCODER="none")
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(COMMAND, env=settings, stdout=said, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: "cpu" in devices_that_are_ready(bus_url), seconds=120)
        listed = subprocess.run(["/bin/ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, check=True)
        first = int(listed.stdout.split()[0])
        os.kill(first, signal.SIGKILL)
        eventually(lambda: b"the worker has ended; starting it again" in (tmp_path / "said").read_bytes())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def test_workers_without_the_gateways_servers_are_not_started(tmp_path: Path) -> None:
    done = subprocess.run(COMMAND, env=environment(DATA_DIR=str(tmp_path)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CONTEXTUNE_STORE_URL and CONTEXTUNE_BUS_URL must name" in done.stderr
