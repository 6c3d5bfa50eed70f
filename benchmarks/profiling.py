"""Where the time goes in a step of tuning and in a batch of queries, by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from benchmarks.measurement import interleaved, spread, timed
from benchmarks.results import Cell, Results
from benchmarks.settings import Settings
from benchmarks.subject import Subject
from benchmarks.tuning import tuner
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score

SHARES = ("gemm", "attention", "embedding", "head", "other operations", "framework")

_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "mkldnn::_linear_pointwise", "aten::mkldnn_linear")
_HEAD = ("log_softmax", "nll_loss", "logsumexp", "cross_entropy")


def measure(subject: Subject, settings: Settings, results: Results) -> None:
    """A profile of a step for every K, and of a batch for every size."""
    for examples in settings.examples:
        results.cell(f"profile/step/{examples}", lambda k=examples: _step(subject, settings, k))  # type: ignore[misc]
    for batch in settings.batches:
        results.cell(f"profile/batch/{batch}", lambda b=batch: _batch(subject, settings, b))  # type: ignore[misc]


def _step(subject: Subject, settings: Settings, examples: int) -> Cell:
    step = tuner(subject, subject.task(examples)).step
    profiled = _profile(subject, settings.rounds_of_profile(examples), step)
    return {"work": f"tuning step, K = {examples}", **profiled}


def _batch(subject: Subject, settings: Settings, batch: int) -> Cell:
    ids, labels = subject.task(8).context.tokens.ids, min(settings.labels)
    prefix = PrefixKV.compute(subject.base.model, word_embeddings(subject.base.model, ids))
    queries, label_ids = subject.queries(batch), subject.label_ids(labels)
    name = f"batch of {batch}, {labels} labels"
    work = partial(score, subject.base.model, prefix, label_ids, queries)
    return {"work": name, **_profile(subject, settings.profile_rounds, work)}


def _profile(subject: Subject, rounds: int, work: Callable[[], object]) -> Cell:
    work()
    plain = interleaved({"work": work}, rounds)["work"]
    vocabulary = subject.base.model.config.vocab_size
    shares = [_shares(work, vocabulary) for _ in range(rounds)]
    return {"seconds": spread(plain), "shares": {name: spread([one[name] for one in shares]) for name in SHARES}}


def _shares(work: Callable[[], object], vocabulary: int) -> dict[str, float]:
    """Share of each kind in the time of a profiled call; the framework's is what no operation accounts for.

    Where several threads compute side by side, it is their time together.
    """
    every = _ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, experimental_config=every) as profiled:
        seconds = timed(work)
    kinds: dict[str, float] = dict.fromkeys(SHARES, 0.0)
    events = list(profiled.events() or ())
    for event in events:
        kinds[_kind(event, vocabulary)] += event.self_cpu_time_total / 1e6
    known = sum(kinds.values())
    threads = {event.thread for event in events if event.name in _PRODUCTS}
    total = max(seconds * len(threads), known)
    kinds["framework"] = total - known
    return {name: kinds[name] / total for name in SHARES}


def _kind(event: Any, vocabulary: int) -> str:
    has_vocabulary = any(vocabulary in shape for shape in event.input_shapes)
    if any(one.name.startswith("_Attend") for one in _with_callers(event)):
        return "attention"
    if "embedding" in event.name or (event.name == "aten::index_select" and has_vocabulary):
        return "embedding"
    if has_vocabulary or any(name in event.name for name in _HEAD):
        return "head"
    return "gemm" if event.name in _PRODUCTS else "other operations"


def _with_callers(event: Any) -> Iterator[Any]:
    while event is not None:
        yield event
        event = event.cpu_parent
