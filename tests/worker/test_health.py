import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from app.contract.messages import Announcement
from worker.bus import WorkerBus
from worker.health import unready

HERE = socket.gethostname()


@pytest.fixture
def bus(bus_url: str) -> Iterator[WorkerBus]:
    bus = WorkerBus(bus_url, "here")
    yield bus
    bus.close()


def announcement(model: str, *, host: str = HERE, ready: bool = True, unsupported: str | None = None) -> Announcement:
    return Announcement(worker_id="worker-1", host=host, model=model, ready=ready, unsupported=unsupported)


def test_model_is_served_once_a_worker_of_this_host_is_ready_for_it_or_refuses_it(bus_url: str, bus: WorkerBus) -> None:
    bus.announce(
        [
            announcement("ready"),
            announcement("refused", ready=False, unsupported="Gemma2Config: soft-capped attention is not supported."),
            announcement("loading", ready=False),
            announcement("elsewhere", host="another host"),
        ]
    )
    models = ["ready", "refused", "loading", "elsewhere", "unheard of"]
    assert unready(bus_url, models) == ["loading", "elsewhere", "unheard of"]


def test_worker_that_has_withdrawn_is_not_ready(bus_url: str, bus: WorkerBus) -> None:
    bus.announce([announcement("tiny")])
    assert unready(bus_url, ["tiny"]) == []
    bus.withdraw()
    assert unready(bus_url, ["tiny"]) == ["tiny"]


def test_bus_that_is_away_is_an_error() -> None:
    with pytest.raises(redis.RedisError):
        unready("unix:///nowhere", ["tiny"])


@pytest.mark.parametrize(("announced", "status"), [(["tiny"], 0), ([], 1)])
def test_exit_status_tells_and_torch_is_not_loaded(
    bus_url: str, bus: WorkerBus, announced: list[str], status: int
) -> None:
    bus.announce([announcement(model) for model in announced])
    environment = {
        **os.environ,
        "CONTEXTUNE_STORE_URL": "unix:///nowhere",
        "CONTEXTUNE_BUS_URL": bus_url,
        "CONTEXTUNE_MODELS": '{"tiny": {"path": "nowhere"}}',
    }
    code = "import sys, worker.health as h; status = h.main(); assert 'torch' not in sys.modules; sys.exit(status)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "" if announced else "not ready: tiny\n")
