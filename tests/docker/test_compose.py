"""What docker-compose.yml mounts of the repository is there."""

from pathlib import Path

import yaml

TOP = Path(__file__).parents[2]


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


def test_monitoring_is_a_profile_on_loopback_addresses() -> None:
    services = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]
    monitoring = {name for name, service in services.items() if service.get("profiles") == ["monitoring"]}
    assert monitoring == {"prometheus", "grafana", "metrics-key"}
    ports = [port for name in monitoring for port in services[name].get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
