"""Bytes of tensors that live at once, as torch's allocator for the CPU counts them."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], object]) -> int:
    """Bytes at the peak, beside what was allocated before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = profiled.profiler.kineto_results.events() if profiled.profiler else []
    changes = sorted(
        (event.start_ns(), number, event.nbytes()) for number, event in enumerate(events) if event.name() == "[memory]"
    )
    now = peak = 0
    for _, _, change in changes:
        now += change
        peak = max(peak, now)
    return peak
