import subprocess
import sys

import pytest
from pydantic import ValidationError

from worker.config import ModelSource, WorkerSettings
from worker.devices import NoSuchDevice, existing, resident_bytes, resolve, state

TWO = ["cuda:0", "cuda:1", "cpu"]


@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_name_stands_for_a_device_that_is_there(name: str, device: str) -> None:
    assert resolve(name, TWO) == device


@pytest.mark.parametrize("name", ["cuda:2", "meta", "mps", "", "cuda:-1"])
def test_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(NoSuchDevice, match="this machine has cuda:0, cuda:1, cpu"):
        resolve(name, TWO)


def test_machine_without_a_gpu_has_its_cpu() -> None:
    assert (existing(), resolve("auto")) == (["cpu"], "cpu")
    with pytest.raises(NoSuchDevice, match="there is no device 'cuda': this machine has cpu"):
        resolve("cuda")
    listed = subprocess.run([sys.executable, "-m", "worker.devices"], capture_output=True, text=True, check=True)
    assert listed.stdout == "cpu\n"


def test_state_of_a_device_has_its_memory() -> None:
    cpu = state("cpu")
    assert cpu.name
    assert 0 < cpu.free_bytes <= cpu.total_bytes
    assert 0 < resident_bytes("cpu") <= cpu.free_bytes


def models_of(device: str, *devices: str) -> list[str]:
    """Which models a worker of several loads."""
    models = {
        "anywhere": ModelSource(path=""),
        "first": ModelSource(path="", device="cuda:0"),
        "second": ModelSource(path="", device="cuda:1"),
        "elsewhere": ModelSource(path="", device="cpu"),
    }
    settings = WorkerSettings(store_url="", bus_url="", models=models, device=device, devices=devices)
    return list(settings.own_models)


def test_each_worker_loads_the_models_of_its_device_and_the_first_one_those_of_no_other() -> None:
    assert models_of("cuda:0", "cuda:0", "cuda:1") == ["anywhere", "first", "elsewhere"]
    assert models_of("cuda:1", "cuda:0", "cuda:1") == ["anywhere", "second"]
    assert models_of("auto") == ["anywhere", "first", "second", "elsewhere"]
    assert models_of("auto", "auto") == ["anywhere", "first", "second", "elsewhere"]


def test_settings_that_are_refused_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTEXTUNE_BUS_URL", raising=False)
    with pytest.raises(ValidationError, match="bus_url") as refused:
        WorkerSettings(store_url="redis://:s3cret@store")  # type: ignore[call-arg]
    assert "s3cret" not in str(refused.value)


def test_log_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be one of DEBUG"):
        WorkerSettings(store_url="", bus_url="", log_level="LOUD")
