import os
import socket
import subprocess
import sys
from pathlib import Path

from app.config import Settings
from app.standalone.processes import children


def up(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.standalone.cli"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_bad_configuration_is_named(tmp_path: Path) -> None:
    result = up(CONTEXTUNE_PORT="http", CONTEXTUNE_DATA_DIR=str(tmp_path / "data"))
    assert result.returncode == 1
    assert result.stderr.startswith("CONTEXTUNE_PORT: Input should be a valid integer")
    assert not (tmp_path / "data").exists()


def test_setting_that_lacks_another_is_named(tmp_path: Path) -> None:
    result = up(CONTEXTUNE_TLS_CERT="cert.pem", CONTEXTUNE_DATA_DIR=str(tmp_path / "data"))
    assert result.returncode == 1
    assert result.stderr == "set both CONTEXTUNE_TLS_CERT and CONTEXTUNE_TLS_KEY, or neither\n"


def test_port_in_use_ends_up_with_nothing_left_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = up(CONTEXTUNE_PORT=str(port), CONTEXTUNE_DATA_DIR=str(tmp_path))
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in result.stderr
    assert not any(child.running() for child in children(Settings(data_dir=tmp_path)))
