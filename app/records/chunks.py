"""Chunks: what a batch has done of its input, a few seconds of work at a time, and where it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from app.contract.objects import Report
from app.records.bodies import Bodies
from app.records.claims import BatchClaim
from app.records.connection import POLL_SECONDS, Store
from app.records.garbage import writer
from app.records.rows import Row, row_of


@dataclass(frozen=True)
class Chunk:
    """The lines of a batch from ``first`` on, up to ``next``, where the input goes on at the byte ``offset``.

    ``results``, ``errors`` and ``outcomes`` are addresses of files, None where there is nothing to hold.
    """

    first: int
    next: int
    offset: int
    results: str | None = None
    errors: str | None = None
    outcomes: str | None = None

    @property
    def addresses(self) -> list[str]:
        """Its files."""
        return [one for one in (self.results, self.errors, self.outcomes) if one]


@dataclass(frozen=True)
class Done:
    """What a chunk adds to the counts of its batch: lines, bytes of files, and tokens as in an answer's usage."""

    done: int
    failed: int
    bytes: int
    input_tokens: int
    context_tokens: int


def read_chunks(store: Store, tenant: str, job_id: str, first: int = 0) -> tuple[Row, list[Chunk]]:
    """The row of a batch, empty if there is none, and its chunks from the number ``first`` on."""
    flat, texts = store.run("chunks", tenant, job_id, first)
    return row_of(flat), [Chunk(**json.loads(text)) for text in texts]


class BatchWork:
    """What workers do with batches. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, bodies: Bodies, keep_usage_seconds: float) -> None:
        self._store = store
        self._bodies = bodies
        self._keep_usage_ms = int(keep_usage_seconds * 1000)

    def chunks(self, claim: BatchClaim) -> list[Chunk]:
        """What was done of a batch before."""
        return read_chunks(self._store, claim.tenant, claim.job_id)[1]

    def add(self, claim: BatchClaim, number: int, chunk: Chunk, done: Done) -> str:
        """Keep the chunk with this number, whose files are written. Adding it again changes nothing.

        Returns ``held``, ``cancel`` (held, but to be ended) or ``lost``.
        """
        counted = (done.bytes, done.done, done.failed, done.input_tokens, done.context_tokens, self._keep_usage_ms)
        text = json.dumps(asdict(chunk))
        held = claim.tenant, claim.job_id, claim.fence
        return str(self._store.run("add_chunk", *held, number, text, *counted, *chunk.addresses))

    def finish(self, claim: BatchClaim, report: Report | None, line_seconds: float | None) -> str:
        """End a batch whose lines are all done; ``line_seconds`` is what each took, where that was measured.

        Returns the final status, ``cancelled`` if that was asked for, or ``lost``. Raises what the file system raises.
        """
        content = report.model_dump_json() if report else ""
        address = self._bodies.address(content) if content else ""
        held = claim.tenant, claim.job_id, claim.fence
        if content:
            while self._store.run("begin_write", *held, address) == "wait":
                time.sleep(POLL_SECONDS)  # a file with the same content is being removed
            self._bodies.put(content)
        needed = "" if line_seconds is None else round(line_seconds * 1000, 4)
        ended = str(self._store.run("finish_batch", *held, address, len(content.encode()), needed))
        if content and ended != "succeeded" and self._store.run("end_write", *held, address):
            self._bodies.remove(address)
            self._store.run("collected", writer(*held), address)
        return ended


def labelled(chunks: Sequence[Chunk]) -> list[str]:
    """Addresses of the outcomes of labelled lines, in their order."""
    return [chunk.outcomes for chunk in chunks if chunk.outcomes]
