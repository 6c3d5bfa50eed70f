"""Where pip takes PyTorch from: prints the options that make it take the CPU build where no GPU could be used.

    python -m pip install $(python -m release.torch_index) torch

On Linux the wheels of PyPI bring gigabytes of CUDA libraries. Without an NVIDIA driver PyTorch's own index of CPU
wheels is named beside pip's, unless pip is configured to look elsewhere: then its user knows best. Runs before anything
is installed, so it imports the standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

#: As https://pytorch.org/get-started/locally/ names it.
CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"
#: Options of pip that say where packages come from or which of them are wanted.
_CHOICES: Final = {"index-url", "extra-index-url", "find-links", "no-index", "constraint"}
_DRIVER: Final = Path("/proc/driver/nvidia/version")


def options(platform: str, driver: bool, pip_config: str) -> list[str]:
    """Options for ``pip install``; ``pip_config`` is what ``pip config list`` prints, environment included."""
    if platform != "linux" or driver or chosen(pip_config):
        return []
    return ["--extra-index-url", CPU_INDEX]


def chosen(pip_config: str) -> bool:
    """Whether a line such as ``global.index-url='…'`` or ``:env:.find-links='…'`` says where packages come from."""
    names = (line.partition("=")[0].rpartition(".")[2] for line in pip_config.splitlines())
    return any(name in _CHOICES for name in names)


def has_driver() -> bool:
    """Whether an NVIDIA driver is loaded, or its tool is there (Windows' Linux has the tool alone)."""
    return _DRIVER.exists() or shutil.which("nvidia-smi") is not None


def main() -> int:
    """Print the options for this machine, or nothing."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    sys.stdout.write(" ".join(options(sys.platform, has_driver(), listed.stdout)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
