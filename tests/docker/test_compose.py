"""docker-compose.yml fits the repository: what it mounts is there, what can be set reaches the containers."""

from pathlib import Path

import pytest
import yaml

from app.config import Settings
from worker.config import WorkerSettings

TOP = Path(__file__).parents[2]
#: Settings that the containers fix, or that name files or servers that they do not have.
FIXED = {"host", "port", "data_dir", "store_url", "bus_url", "artifacts_url", "tls_cert", "tls_key", "place", "device"}


def test_files_that_containers_mount_exist() -> None:
    services = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]
    mounted = {
        str(volume).partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
        if str(volume).startswith("./")
    }
    assert "./docker/monitoring/alerts.yml" in mounted
    assert {path for path in mounted if not (TOP / path).is_file()} == set()


@pytest.mark.parametrize(
    ("service", "settings"),
    [("gateway", Settings), ("worker", WorkerSettings), ("worker-gpu", WorkerSettings)],
)
def test_settings_of_the_environment_reach_the_containers(
    service: str, settings: type[Settings | WorkerSettings]
) -> None:
    environment = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"][service]["environment"]
    shared_by_workers = {"devices"} if service == "gateway" else set()
    settable = {f"CONTEXTUNE_{name.upper()}" for name in set(settings.model_fields) - FIXED - shared_by_workers}
    assert settable - set(environment) == set()


def test_monitoring_is_a_profile_on_loopback_addresses() -> None:
    services = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]
    monitoring = {name for name, service in services.items() if service.get("profiles") == ["monitoring"]}
    assert monitoring == {"prometheus", "grafana", "metrics-key"}
    ports = [port for name in monitoring for port in services[name].get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
