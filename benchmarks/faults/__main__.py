"""Measure each part that is named, or all, and store it as it ends; see the README.

``python -m benchmarks.faults [disk artifacts store polls trickle bodies] [--seed 0] [--seconds 30]``

Each part has a service of its own (embedded store and bus, one worker on the null model) on two disks in memory, one
for the data folder and one for the artifacts, and users at work on it before, meanwhile and after.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from app.records.connection import connect
from app.records.store import Records
from app.standalone.embedded import EmbeddedServer
from benchmarks.faults import disks, report
from benchmarks.faults.probe import Probe, summary
from benchmarks.faults.work import Work, classification, confidences, same, succeeded
from benchmarks.isolation import ask
from benchmarks.machine import processor
from benchmarks.null_model import NAME, save_null_model, tokenizer
from benchmarks.running import Service, running
from tests.submissions import submission

_HERE: Final = Path(__file__).parents[1]
_STORED: Final = _HERE / "faults.json"
_DATA_MIB: Final = 192
_ARTIFACTS_MIB: Final = 96
_BEFORE_SECONDS: Final = 15.0
_AFTER_SECONDS: Final = 10.0
_WHOLE_SECONDS: Final = 120.0
#: Nobody serves this model, so a job for it waits for as long as it is let.
_NOBODYS: Final = "nobodys"


@dataclass(frozen=True)
class Run:
    """A service, where its artifacts are, and how long it suffers."""

    service: Service
    artifacts: Path
    seconds: float

    @property
    def disk(self) -> Path:
        """The disk of the data folder."""
        return self.service.folder.parent


def _full_disk(run: Run) -> None:
    with disks.full([run.disk, run.artifacts]):
        time.sleep(run.seconds)


def _full_artifacts(run: Run) -> None:
    with disks.full([run.artifacts]):
        time.sleep(run.seconds)


def _full_store(run: Run) -> None:
    with connect(EmbeddedServer.store(run.service.folder).url) as store:
        most = store.config_get("maxmemory")["maxmemory"]
        store.config_set("maxmemory", 1)
        try:
            time.sleep(run.seconds)
        finally:
            store.config_set("maxmemory", most)


def _crowd(kind: str, clients: int, run: Run, path: str = "") -> None:
    request = {"url": run.service.url, "kind": kind, "clients": clients, "seconds": run.seconds, "path": path}
    print(json.dumps({kind: ask("benchmarks.faults.crowds", **request)}), flush=True)


def _polls(run: Run) -> None:
    with connect(EmbeddedServer.store(run.service.folder).url) as store:
        records = Records(store, artifacts_url=f"file://{run.artifacts}")
        _, job = records.of("default").contexts.submit(submission(model=_NOBODYS))
    _crowd("polls", 2_000, run, f"/jobs/{job.id}?wait=60")


_PARTS: Final[Mapping[str, tuple[str, Callable[[Run], None]]]] = {
    "disk": ("disk full, artifacts and store alike", _full_disk),
    "artifacts": ("artifacts full", _full_artifacts),
    "store": ("store full", _full_store),
    "polls": ("2,000 long polls", _polls),
    "trickle": ("400 clients that send a byte a second", partial(_crowd, "trickle", 400)),
    "bodies": ("100 clients that hold 8 MiB each", partial(_crowd, "bodies", 100)),
}


def measure(part: str, run: Run, seed: int) -> dict[str, Any]:
    """Figures of one part."""
    what, suffer = _PARTS[part]
    url = run.service.url
    work = Work(url, part, seed)
    expected = work.expected("icl")
    body = classification(work.context("icl"))
    probe = Probe(url, body, lambda response: same(confidences(response), expected))
    work.start()
    probe.start()
    time.sleep(_BEFORE_SECONDS)
    gateway = _gateway(run.service)
    _forget_peak(gateway)
    refusals_before = work.ledger.refusals.copy()
    whole_before = _whole_again(url, time.monotonic())
    began = time.monotonic()
    suffer(run)
    ended = time.monotonic()
    whole = _whole_again(url, ended)
    time.sleep(max(0.0, ended + 10 - time.monotonic()))
    calm = time.monotonic()
    time.sleep(_AFTER_SECONDS)
    peak = _peak(gateway)
    work.stop()
    over = time.monotonic()
    probe.stop()
    return {
        "what": what,
        "seconds": run.seconds,
        "acknowledged": work.ledger.acknowledged,
        "lost": work.lost(),
        "refusals": dict(work.ledger.refusals - refusals_before),
        "gateway_mb": peak / 1e6,
        "before": summary(probe.between(began - _BEFORE_SECONDS + 2, began)),
        "meanwhile": summary(probe.between(began, ended)),
        "recovering": summary(probe.between(ended, ended + 10)),
        "after": summary(probe.between(calm, over)),
        "whole_before_seconds": whole_before,
        "whole_seconds": whole,
        "load": os.getloadavg()[0],
        "processor": processor(),
    }


def _whole_again(url: str, ended: float) -> float:
    """Seconds until a new context, behind those that were queued, was created, tuned and asked."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while time.monotonic() < ended + _WHOLE_SECONDS:
            with suppress(httpx.HTTPError, RuntimeError):
                body = {"examples": [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]}
                posted = http.post("/contexts", json=body | {"hyperparameters": {"method": "icl"}}).raise_for_status()
                succeeded(http, posted.json()["job"]["id"], _WHOLE_SECONDS)
                confidences(http.post("/classify", json=classification(posted.json()["context"]["id"])))
                return time.monotonic() - ended
            time.sleep(0.1)
    raise RuntimeError("the service did not recover")


def _gateway(service: Service) -> psutil.Process:
    children = psutil.Process(service.process.pid).children(recursive=True)
    return next(child for child in children if child.cmdline()[-2:] == ["-m", "app.main"])


def _forget_peak(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # proc(5): the peak begins anew


def _peak(process: psutil.Process) -> int:
    """The most memory (bytes) that the process has had. Raises RuntimeError if it died."""
    with suppress(FileNotFoundError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("the gateway died")


@contextmanager
def _fresh_service(model: Path, place: Path) -> Iterator[tuple[Service, Path]]:
    disk, artifacts = disks.mounted(place / "disk", _DATA_MIB), disks.mounted(place / "artifacts", _ARTIFACTS_MIB)
    (place / "cache").mkdir(parents=True)
    with disk as data, artifacts as files:
        environment = {"ENCODER": "none", "ARTIFACTS_URL": f"file://{files}"}
        with running({NAME: {"path": str(model)}}, place / "cache", environment, data) as service:
            yield service, files


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    """Measure the parts one after the other, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*_PARTS, []], metavar="part", help="all unless given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=_STORED)
    given = parser.parse_args()
    disks.enter()
    stored: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        model = Path(folder, "model")
        save_null_model(tokenizer(), model)
        for part in given.parts or _PARTS:
            with _fresh_service(model, Path(folder, part)) as (service, artifacts):
                figures = measure(part, Run(service, artifacts, given.seconds), given.seed)
            stored[part] = {"commit": _commit(), "figures": figures}
            print(json.dumps({part: stored[part]}, indent=1), flush=True)
            given.out.write_text(json.dumps({name: stored[name] for name in _PARTS if name in stored}, indent=1) + "\n")
    if given.out == _STORED:
        report.write(json.loads(_STORED.read_text()), _HERE / "README.md")


if __name__ == "__main__":
    main()
