"""Peak memory of one step, measured in a process that does nothing else: run through `benchmarks.isolation`.

What counts is resident memory above that of the loaded model. The kernel's own peak of this address space is read and
reset; a process's ru_maxrss also counts what its parent held when it was started, and the peak of loading.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.isolation import answer
from benchmarks.reference import ReferenceTuning
from benchmarks.subject import Subject
from benchmarks.tuning import tuner

_RESET_PEAK = "5"


def peak_of_step(contender: str, cache: str, data: str, examples: int, micro_batch: int) -> int:
    """Bytes that a step takes above the loaded model; of the reference one micro-batch, since all are alike."""
    subject = Subject.load(Path(cache), Path(data))
    task = subject.task(examples)
    with torch.inference_mode():
        subject.base.model(torch.tensor([[1]]))  # weights are mapped from the file until they are used
    if contender == "ours":
        return peak_above_now(tuner(subject, task).step)
    reference = ReferenceTuning(subject.base.model, task.config, task.training, micro_batch)
    return peak_above_now(lambda: reference.step(micro_batch))


def peak_above_now(work: Callable[[], object]) -> int:
    """The most resident memory (bytes) while `work` is done, above what there is before."""
    loaded = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    work()
    return _status("VmHWM") - loaded


def _status(field: str) -> int:
    """Bytes in a field of this process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"The kernel does not tell {field}.")


if __name__ == "__main__":
    answer(peak_of_step)
