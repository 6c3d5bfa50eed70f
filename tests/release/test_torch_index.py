"""Which PyTorch a fresh machine takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from release.torch_index import CPU_INDEX, options

FROM_CPU_INDEX = ["--extra-index-url", CPU_INDEX]


@pytest.mark.parametrize(
    ("platform", "driver", "pip_config", "expected"),
    [
        ("linux", False, "", FROM_CPU_INDEX),
        ("linux", True, "", []),
        ("darwin", False, "", []),
        ("linux", False, "global.timeout='60'\n:env:.cert='/etc/ssl/index-url.pem'\n", FROM_CPU_INDEX),
        ("linux", False, "global.index-url='https://packages.example/simple'\n", []),
        ("linux", False, ":env:.extra-index-url='https://packages.example/simple'\n", []),
        ("linux", False, "install.find-links='/wheels'\n", []),
        ("linux", False, "user.constraint='/etc/constraints.txt'\n", []),
        ("linux", False, "global.no-index='true'\n", []),
    ],
    ids=["no driver", "driver", "macOS", "other options", "index", "extra index", "wheels", "constraint", "offline"],
)
def test_options_of_pip(platform: str, driver: bool, pip_config: str, expected: list[str]) -> None:
    assert options(platform, driver, pip_config) == expected


@pytest.mark.parametrize("from_environment", [False, True], ids=["file", "environment"])
def test_configuration_of_pip_wins(tmp_path: Path, from_environment: bool) -> None:
    configured = tmp_path / "pip.conf"
    configured.write_text("" if from_environment else "[global]\nfind-links = /wheels\n")
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {**outside, "PIP_CONFIG_FILE": str(configured), "HOME": str(tmp_path)}
    if from_environment:
        environment["PIP_FIND_LINKS"] = "/wheels"
    said = subprocess.run(
        [sys.executable, "-m", "release.torch_index"], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "\n"
