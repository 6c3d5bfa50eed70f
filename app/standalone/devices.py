"""The devices of this machine, as far as a process without torch can know them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.standalone.children import ChildError

#: The node of NVIDIA's driver: where there is none, torch need not be loaded to find no device.
_DRIVER = Path("/dev/nvidiactl")
_ASK_SECONDS = 120


def worker_devices(
    wanted: Sequence[str], environment: Mapping[str, str], listing: Sequence[str] = ("-P", "-m", "worker.devices")
) -> list[str]:
    """The devices that get a worker each: those ``wanted``, or for "all" every GPU, for "auto" else the CPU.

    ``listing`` are the arguments of the Python that prints what there is. Raises ``ChildError`` for one
    that is not there, or where "all" are none.
    """
    if list(wanted) == ["cpu"]:
        return ["cpu"]
    if list(wanted) == ["auto"] and not (_DRIVER.exists() or shutil.which("nvidia-smi")):
        return ["cpu"]
    listed = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, *listing], env=environment, stdout=subprocess.PIPE, text=True, timeout=_ASK_SECONDS, check=True
    )
    devices = listed.stdout.split()
    if list(wanted) in (["auto"], ["all"]):
        gpus = [device for device in devices if device != "cpu"]
        if not gpus and list(wanted) == ["all"]:
            raise ChildError("CONTEXTUNE_DEVICES is 'all' GPUs, and this machine has none; 'auto' takes the CPU then")
        return gpus or ["cpu"]
    for device in wanted:
        if device not in devices:
            raise ChildError(
                f"CONTEXTUNE_DEVICES names {device!r}, which is not there: this machine has {', '.join(devices)}"
            )
    return list(wanted)
