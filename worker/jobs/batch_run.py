"""One run of a batch: from lines to chunks of results, from where it went on before."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final

import torch
from torch import Tensor

from app.contract.batches import LINES_SUFFIX, OUTCOMES_SUFFIX, BatchLine
from app.contract.messages import Failure
from app.contract.names import ErrorCode
from app.contract.objects import Report
from app.records.chunks import Chunk, Done, labelled
from app.records.claims import BatchClaim
from app.records.store import Records
from worker.artifacts import ArtifactCorrupt, Artifacts
from worker.classification.queries import Query, TooLong, queries_of
from worker.classification.resident import ModelChanged, Resident, ResidentContexts, UnusableContext
from worker.classification.together import failure_of
from worker.cpt.formats.bundle import NewerFormat
from worker.cpt.model.sizes import ON_CPU, Sizes
from worker.device import Device, out_of_memory
from worker.evaluation.batch_report import batch_report
from worker.evaluation.outcomes import Outcomes
from worker.jobs.batch_lines import Fault, Group, groups, parse
from worker.jobs.lease import Cancelled, Lease, LeaseLost, Stopping
from worker.jobs.result_files import ResultFiles
from worker.models import LanguageModel

#: A chunk is full with so many bytes of results.
_CHUNK_BYTES: Final = 4 * 1024 * 1024
#: Lines, and bytes of them, that are computed together on a CPU: a fraction of a second up to a few seconds of work.
_GROUP_LINES: Final = 64
_GROUP_BYTES: Final = 32 * 1024


class Unservable(Exception):
    """A batch whose context cannot answer, for the reason in ``failure``."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class Ending:
    """What a batch ends with: a report where lines had labels, and what a line took where that was measured."""

    report: Report | None
    line_seconds: float | None


@dataclass
class _Gathered:
    """What is to become a chunk."""

    first: int
    next: int
    offset: int
    results: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    outcomes: list[bytes] = field(default_factory=list)
    size: int = 0
    input_tokens: int = 0
    began: float = field(default_factory=time.monotonic)

    def full(self, seconds: float) -> bool:
        return self.size >= _CHUNK_BYTES or time.monotonic() - self.began >= seconds


@dataclass(frozen=True)
class _Asked:
    """A line that can be answered."""

    index: int
    line: BatchLine
    query: Query


class BatchRun:
    """Runs a claimed batch on ``base`` while ``lease`` holds."""

    def __init__(
        self,
        claim: BatchClaim,
        base: LanguageModel,
        residents: ResidentContexts,
        artifacts: Artifacts,
        device: Device,
        lease: Lease,
        records: Records,
        files: ResultFiles,
    ) -> None:
        self._claim = claim
        self._base = base
        self._residents = residents
        self._artifacts = artifacts
        self._device = device
        self._lease = lease
        self._work = records.batch_work
        self._files = files
        self._numbers = {label: number for number, label in enumerate(claim.labels)}
        self._quoted = [json.dumps(label, ensure_ascii=False) for label in claim.labels]

    def to_end(self, chunk_seconds: float) -> Ending:
        """Answer the lines that are left, a chunk after each so many seconds, and return what is known of all.

        Raises `Unservable`; `Cancelled`, `LeaseLost` or `Stopping` from between two pieces of work, and `Parked` after
        a chunk. What was answered by then is kept.
        """
        chunks = self._work.chunks(self._claim)
        if self._claim.attempt > 1 and not self._claim.parked:
            done = chunks[-1].next if chunks else 0
            self._lease.say(f"going on after line {done}", {"attempt": self._claim.attempt, "lines": done})
        first = start = chunks[-1].next if chunks else 0
        offset = chunks[-1].offset if chunks else 0
        began = time.monotonic()
        scale = max(1, Sizes.of(self._base.model).pass_tokens // ON_CPU.pass_tokens)
        with self._opened() as file:
            gathered = _Gathered(first, first, offset)
            for group in groups(file, first, offset, _GROUP_LINES * scale, _GROUP_BYTES * scale):
                try:
                    self._answer(group, gathered)
                except (Stopping, Cancelled):
                    if gathered.next > gathered.first:
                        self._keep(len(chunks), gathered)
                    raise
                if gathered.full(chunk_seconds) or group.next >= self._claim.total:
                    chunks.append(self._keep(len(chunks), gathered))
                    took = (time.monotonic() - began) / (group.next - start)
                    self._note(group.next, took)
                    gathered = _Gathered(group.next, group.next, group.offset)
        self._lease.tell()
        lines = self._claim.total - start
        return Ending(self._report(chunks), (time.monotonic() - began) / lines if lines else None)

    def offer(self, _: float | None = None, /) -> None:
        """Be the batch's turn: end one that must not go on, and let queries pass."""
        self._lease.check()
        self._device.let_queries_pass()

    @cached_property
    def _resident(self) -> Resident:
        """The context, which stays for the whole run."""
        try:
            return self._residents.get(self._claim.spec.artifact)
        except FileNotFoundError as error:
            message = "the context's artifact is missing"
            raise Unservable(Failure(code=ErrorCode.ARTIFACT_CORRUPT, message=message)) from error
        except (ArtifactCorrupt, UnusableContext, NewerFormat, ModelChanged) as error:
            raise Unservable(failure_of(error, ())) from error

    def _opened(self) -> Any:
        try:
            return self._artifacts.open(self._claim.input)
        except (FileNotFoundError, ArtifactCorrupt) as error:
            message = "the file of the batch is missing or damaged"
            raise Unservable(Failure(code=ErrorCode.ARTIFACT_CORRUPT, message=message)) from error

    def _answer(self, group: Group, gathered: _Gathered) -> None:
        """Answer the lines of a group that can be answered."""
        self._lease.check()
        lines = {index: self._read(content) for index, content in enumerate(group.lines, group.first)}
        whole = [(index, line) for index, line in lines.items() if isinstance(line, BatchLine)]
        texts = [line.text for _, line in whole]
        queries = queries_of(self._base, self._resident, texts, self._claim.spec.options.truncate)
        faults = {index: line for index, line in lines.items() if isinstance(line, Fault)}
        asked: list[_Asked] = []
        for (index, line), query in zip(whole, queries, strict=True):
            if isinstance(query, TooLong):
                faults[index] = Fault(ErrorCode.INPUT_TOO_LONG, f"text: {query}", line.id)
            else:
                asked.append(_Asked(index, line, query))
        if asked:
            self._write(asked, self._probabilities([one.query for one in asked]), gathered)
        gathered.errors += [_error(index, faults[index]) for index in sorted(faults)]
        gathered.next, gathered.offset = group.next, group.offset

    def _read(self, content: bytes) -> BatchLine | Fault:
        line = parse(content)
        if isinstance(line, BatchLine) and line.label is not None and line.label not in self._numbers:
            return Fault(ErrorCode.LABEL_UNKNOWN, "label: is not a label of the context", line.id)
        return line

    def _probabilities(self, queries: Sequence[Query]) -> Tensor:
        """[N, L] float64; in halves where memory does not suffice for all at once."""
        compute = partial(
            self._resident.predictor.probabilities,
            self._base.model,
            [query.ids for query in queries],
            [query.text for query in queries],
            exact=self._claim.spec.options.exact,
            turn=self,
        )
        try:
            return self._device.run(compute).double()
        except Exception as error:
            if not out_of_memory(error) or len(queries) == 1:
                raise
        half = len(queries) // 2
        return torch.cat([self._probabilities(queries[:half]), self._probabilities(queries[half:])])

    def _write(self, asked: Sequence[_Asked], probabilities: Tensor, gathered: _Gathered) -> None:
        """Add the results of lines, and the outcomes of those with labels."""
        options = self._claim.spec.options
        ordered = probabilities.sort(dim=1, descending=True, stable=True)
        most = min(options.top_k, len(self._quoted))
        rows = zip(asked, ordered.indices[:, :most].tolist(), ordered.values[:, :most].tolist(), strict=True)
        for one, labels, confidences in rows:
            abstained = confidences[0] < options.min_confidence
            listed = ",".join(
                f'{self._quoted[label]}:{{"confidence":{confidence!r}}}'
                for label, confidence in zip(labels, confidences, strict=True)
            )
            result = (
                f'{{"index":{one.index},"id":{_quoted(one.line.id)},'
                f'"prediction":{"null" if abstained else self._quoted[labels[0]]},"confidence":{confidences[0]!r},'
                f'"abstained":{"true" if abstained else "false"},"labels":{{{listed}}}}}\n'
            )
            gathered.results.append(result)
            gathered.size += len(result)
            gathered.input_tokens += len(one.query.ids)
        known = [place for place, one in enumerate(asked) if one.line.label is not None]
        if known:
            truth = torch.tensor([self._numbers[asked[place].line.label or ""] for place in known])
            gathered.outcomes.append(Outcomes.of(probabilities[known], truth).dump())

    def _keep(self, number: int, gathered: _Gathered) -> Chunk:
        """Store what was gathered as the chunk with this number. Raises what `Lease.check` raises."""
        results = "".join(gathered.results).encode()
        errors = "".join(gathered.errors).encode()
        outcomes = Outcomes.joined(gathered.outcomes).dump() if gathered.outcomes else b""
        chunk = Chunk(
            gathered.first,
            gathered.next,
            gathered.offset,
            results=self._stored(results, LINES_SUFFIX),
            errors=self._stored(errors, LINES_SUFFIX),
            outcomes=self._stored(outcomes, OUTCOMES_SUFFIX),
        )
        done = len(gathered.results)
        counted = Done(
            done=done,
            failed=len(gathered.errors),
            bytes=len(results) + len(errors) + len(outcomes),
            input_tokens=gathered.input_tokens,
            context_tokens=self._resident.predictor.tokens if done else 0,
        )
        answer = self._files.insist(lambda: self._work.add(self._claim, number, chunk, counted))
        if answer == "lost":
            for address in chunk.addresses:
                self._files.remove_unwanted(self._claim, address)
            raise LeaseLost
        if answer == "cancel":
            raise Cancelled
        return chunk

    def _stored(self, content: bytes, suffix: str) -> str | None:
        return self._files.write(self._claim, self._lease, content, suffix) if content else None

    def _note(self, index: int, line_seconds: float) -> None:
        """Tell how far the batch is, and let a shorter job by."""
        total = self._claim.total
        metrics = {"lines": index, "total_lines": total, "lines_per_second": round(1 / line_seconds, 3)}
        self._lease.note({"fraction": round(index / total, 4)}, line_seconds * (total - index), metrics)
        if index < total:
            self._lease.let_shorter_by()

    def _report(self, chunks: Sequence[Chunk]) -> Report | None:
        addresses = labelled(chunks)
        if not addresses:
            return None
        outcomes = Outcomes.joined([self._artifacts.get(address) for address in addresses])
        return self._device.run(partial(batch_report, self._claim, outcomes, self))


def _error(index: int, fault: Fault) -> str:
    message = json.dumps(fault.message, ensure_ascii=False)
    return f'{{"index":{index},"id":{_quoted(fault.line_id)},"code":"{fault.code}","message":{message}}}\n'


def _quoted(text: str | None) -> str:
    return "null" if text is None else json.dumps(text, ensure_ascii=False)
