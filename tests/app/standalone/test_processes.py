import os
from pathlib import Path

import pytest
import redis

from app.config import Settings
from app.contract.announcements import ANNOUNCE, KEYS
from app.standalone.children import ChildError, ChildProcess
from app.standalone.devices import worker_devices
from app.standalone.processes import check_packages, children, place, workers


def test_roles_without_a_url_get_a_server(tmp_path: Path) -> None:
    assert [child.name for child in children(Settings(data_dir=tmp_path))] == ["store", "bus", "worker", "gateway"]
    with_store = Settings(data_dir=tmp_path, store_url="redis://127.0.0.1:1")
    assert [child.name for child in children(with_store)] == ["bus", "worker", "gateway"]
    with_both = Settings(data_dir=tmp_path, store_url="redis://127.0.0.1:1", bus_url="redis://127.0.0.1:2")
    assert [child.name for child in children(with_both)] == ["worker", "gateway"]


def test_what_a_dead_worker_announced_is_withdrawn_before_the_next_one_starts(bus_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store_url="redis://127.0.0.1:1", bus_url=bus_url)
    with redis.Redis.from_url(bus_url) as client:
        for where in (place(tmp_path, "worker"), "elsewhere"):
            client.eval(ANNOUNCE, len(KEYS), *KEYS, 60_000, where, "tiny", "{}")
        worker, _ = children(settings)
        worker.start()
        worker.stop()
        assert client.hkeys(KEYS[0]) == [b"elsewhere tiny"]


def test_children_of_a_folder_with_packages_of_the_same_names_run_ours(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        check_packages()
    finally:
        os.chdir(here)


@pytest.mark.parametrize("name", ["app", "worker"])
def test_start_that_would_run_another_package_stops_and_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    with pytest.raises(ChildError, match=rf"a package '{name}' in {tmp_path}/{name} and not Contextune's"):
        check_packages({**os.environ, "PYTHONPATH": str(tmp_path)})


def listing(*devices: str) -> tuple[str, ...]:
    return ("-c", f"print({chr(10).join(devices)!r})")


@pytest.mark.parametrize(
    ("wanted", "there", "given"),
    [
        (["cpu"], ["cuda:0", "cpu"], ["cpu"]),
        (["cuda:1", "cuda:0"], ["cuda:0", "cuda:1", "cpu"], ["cuda:1", "cuda:0"]),
        (["cuda:0", "cpu"], ["cuda:0", "cpu"], ["cuda:0", "cpu"]),
    ],
)
def test_each_wanted_device_gets_a_worker(wanted: list[str], there: list[str], given: list[str]) -> None:
    assert worker_devices(wanted, os.environ, listing(*there)) == given


def test_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ChildError, match="names 'cuda:2', which is not there: this machine has cuda:0, cpu"):
        worker_devices(["cuda:0", "cuda:2"], os.environ, listing("cuda:0", "cpu"))


def test_all_are_the_gpus_and_none_is_refused() -> None:
    assert worker_devices(["all"], os.environ, listing("cuda:0", "cuda:1", "cpu")) == ["cuda:0", "cuda:1"]
    with pytest.raises(ChildError, match="'all' GPUs, and this machine has none; 'auto' takes the CPU then"):
        worker_devices(["all"], os.environ, listing("cpu"))


def test_auto_is_every_gpu_where_there_is_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert worker_devices(["auto"], os.environ, listing("cuda:0", "cuda:1", "cpu")) == ["cuda:0", "cuda:1"]
    assert worker_devices(["auto"], os.environ, listing("cpu")) == ["cpu"]


def test_auto_is_the_cpu_without_asking_where_there_is_no_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert worker_devices(["auto"], os.environ, ("-c", "raise SystemExit(1)")) == ["cpu"]


def test_workers_of_several_devices_are_named_and_told_theirs(tmp_path: Path) -> None:
    started = workers(Settings(data_dir=tmp_path), ["cuda:0", "cuda:1"], {}, "redis://127.0.0.1:1", tmp_path)
    assert [worker.name for worker in started] == ["worker-cuda-0", "worker-cuda-1"]
    assert [worker.log for worker in started] == [tmp_path / "worker-cuda-0.log", tmp_path / "worker-cuda-1.log"]
    for worker, device in zip(started, ("cuda:0", "cuda:1"), strict=True):
        assert isinstance(worker, ChildProcess)
        assert worker._environment["CONTEXTUNE_DEVICE"] == device
        assert worker._environment["CONTEXTUNE_DEVICES"] == "cuda:0,cuda:1"


@pytest.mark.parametrize("value", ["gpu", "cuda", "cuda:0,cuda:0", "auto,cpu", "", "cuda:0;cuda:1"])
def test_setting_that_names_no_devices_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTUNE_DEVICES", value)
    with pytest.raises(ValueError, match="must be auto, all, cpu, or different devices"):
        Settings()
