"""One run of a job: from examples to a tuned context, with checkpoints on the way."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import safetensors.torch
import structlog
import torch
from safetensors import SafetensorError
from torch import Tensor

from app.contract.objects import Report
from app.contract.tuning import ResolvedHyperparameters
from app.records.store import Claim
from worker.artifacts import Artifacts
from worker.classification.classify import probabilities
from worker.classification.resident import Resident
from worker.cpt.formats.bundle import TunedContext, save
from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.selection.search import Found, Search
from worker.cpt.tuning.tuner import CHUNK_TOKENS
from worker.device import Device
from worker.evaluation.report import Predictions, report
from worker.jobs.lease import Lease, Stopping
from worker.jobs.planning import Encoded, encode, search_settings
from worker.models import LanguageModel

#: Validation examples that are classified at once: their features take memory.
_AT_ONCE: Final = 512


@dataclass(frozen=True)
class Result:
    """What a job leaves: the artifact's bytes, what is known of its quality, and the last progress."""

    content: bytes
    report: Report
    fields: dict[str, str | int | float]


class JobRun:
    """Runs a claimed job on ``base`` while ``lease`` holds, in chunks of so many tokens at most."""

    def __init__(
        self,
        claim: Claim,
        base: LanguageModel,
        artifacts: Artifacts,
        device: Device,
        lease: Lease,
        chunk_tokens: int = CHUNK_TOKENS,
    ) -> None:
        self._claim = claim
        self._base = base
        self._artifacts = artifacts
        self._device = device
        self._lease = lease
        self._encoded: Encoded = encode(base, claim.spec)
        self._hyperparameters: ResolvedHyperparameters = claim.hyperparameters
        settings = search_settings(base, claim.spec.hyperparameters, claim.hyperparameters, self._encoded)
        make = partial(Search, base.model, self._encoded.shots, settings, base.context_length)
        make = partial(make, chunk_tokens=chunk_tokens)
        self._search: Search = device.run(make)
        self._losses: list[float] = []
        self._started = time.monotonic()
        self._started_at_step = 0

    def to_end(self, checkpoint_seconds: float) -> Result:
        """Tune, measure and return the result.

        Raises `Cancelled`, `LeaseLost` or `Stopping` from between two chunks of work, and `Parked` after a checkpoint;
        when stopping in the midst of tuning, a checkpoint was written before.
        """
        self._resume()
        saved = time.monotonic()
        while not self._search.finished:
            state = self._device.run(self._search.state)
            try:
                self._step()
            except Stopping:
                self._save(state)
                raise
            if time.monotonic() - saved >= checkpoint_seconds:
                if self._save(self._device.run(self._search.state)):
                    self._lease.let_shorter_by()
                saved = time.monotonic()
        return self._device.run(self._result)

    def _step(self) -> None:
        self._losses.append(self._device.run(partial(self._search.step, self)))
        self._note(0.0)

    def offer(self, done: float | None = None, /) -> None:
        """Be the job's turn: end a job that must not go on, note how far it is, and let queries pass."""
        self._lease.check()
        if done is not None:
            self._note(done)
        self._device.let_queries_pass()

    def _note(self, fraction: float) -> None:
        done = len(self._losses) - self._started_at_step + fraction
        elapsed = time.monotonic() - self._started
        left = max(0.0, self._search.total_steps - len(self._losses) - fraction)
        self._lease.note(self._progress(fraction), elapsed / done * left if done > 0 else None)

    def _progress(self, fraction: float) -> dict[str, str | int | float]:
        steps, done = self._search.total_steps, len(self._losses)
        return {
            "step": done,
            "fraction": round(min(1.0, (done + fraction) / steps), 4) if steps else 1.0,
            "trained_tokens": self._search.trained_tokens,
        }

    def _save(self, state: dict[str, Tensor]) -> bool:
        """Write the state after the last completed step as the job's checkpoint; without one, tuning still goes on."""
        content = safetensors.torch.save(state, metadata=self._checkpoint_metadata())
        try:
            self._artifacts.put_checkpoint(self._claim.job_id, content)
        except Exception as error:  # noqa: BLE001 - any file system, any reason: a checkpoint is only a saving of time
            structlog.get_logger().warning("checkpoint_not_written", job_id=self._claim.job_id, reason=str(error))
            return False
        return True

    def _checkpoint_metadata(self, losses: list[float] | None = None) -> dict[str, str]:
        return {"losses": json.dumps(self._losses if losses is None else losses), **self._base.arithmetic}

    def _resume(self) -> None:
        """Go on from the job's checkpoint if there is one that can be used; else from the start."""
        try:
            content = self._artifacts.get_checkpoint(self._claim.job_id)
            if content is None:
                return
            header_bytes = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + header_bytes])["__metadata__"]
            losses = json.loads(metadata["losses"])
            if metadata != self._checkpoint_metadata(losses):
                raise ValueError("it was computed with another model, dtype or kind of device")
            state = safetensors.torch.load(content)
            self._device.run(partial(self._search.load_state, state))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            structlog.get_logger().warning("checkpoint_not_usable", job_id=self._claim.job_id, reason=str(error))
            return
        self._losses = losses
        self._started_at_step = len(losses)

    def _result(self) -> Result:
        """Serve what was tuned, unless it is known to be worse than the plain context. To be called on the device."""
        found = self._search.result(self)
        measured = self._measured(found)
        worse = measured is not None and measured.tuned_is_worse
        plain = self._hyperparameters.method == "icl" or (worse and self._may_choose)
        served: Literal["tuned", "icl"] = "icl" if plain else "tuned"
        losses = self._losses[len(self._losses) - found.steps :]
        metrics = report(self._base, self._claim, found, measured, served, losses, self)
        fields = self._progress(0.0) | {
            "step": len(self._losses),
            "total_steps": len(self._losses),
            "fraction": 1.0,
            "hyperparameters": self._hyperparameters_of(found).model_dump_json(),
        }
        return Result(self._dump(found, served), metrics, fields)

    @property
    def _may_choose(self) -> bool:
        """Whether the plain context may be served instead: not to a user who asked for a method by name."""
        return self._hyperparameters.method == "auto"

    def _hyperparameters_of(self, found: Found) -> ResolvedHyperparameters:
        """The hyperparameters with what was chosen on held-out folds."""
        return self._hyperparameters.model_copy(
            update={
                "steps": found.steps,
                "weighted_loss_type": found.config["opt_weighted_loss_type"],
                "loss_decay_factor": found.config["opt_loss_decay_factor"],
            }
        )

    def _classifier(self, found: Found) -> Classifier | None:
        """None where label scores are all there is."""
        return found.classifier if self._hyperparameters.calibration or self._hyperparameters.head else None

    def _dump(self, found: Found, served: str) -> bytes:
        spec, tuned = self._claim.spec, served == "tuned"
        return save(
            TunedContext(
                tokens=found.tokens,
                embedding=found.embedding,
                delta=found.delta if tuned else torch.zeros_like(found.delta),
                metadata={
                    "context_id": self._claim.context_id,
                    "model": self._claim.model,
                    "model_sha256": self._base.fingerprint,
                    "labels": spec.label_names,
                    "label_ids": self._encoded.shots.label_ids,
                    "template": spec.template.model_dump(),
                },
                classifier=self._classifier(found) if tuned else None,
            )
        )

    def _resident(self, embeds: Tensor, classifier: Classifier | None) -> Resident:
        shots = self._encoded.shots
        prefix = PrefixKV.compute(self._base.model, embeds)
        return Resident(prefix=prefix, label_ids=shots.label_ids, template=shots.template, classifier=classifier)

    def _measured(self, found: Found) -> Predictions | None:
        """Predictions for the validation examples or else for those of the held-out folds, if there are either."""
        examples = self._claim.spec.validation_examples
        if examples:
            names = self._claim.spec.label_names
            truth = torch.tensor([names.index(example.label) for example in examples])
            icl = tuned = self._classified(self._resident(found.embedding, None))
            if self._hyperparameters.method != "icl":
                tuned = self._classified(self._resident(found.embedding + found.delta, self._classifier(found)))
            return Predictions("validation_examples", truth, icl, tuned)
        if found.held_out is None:
            return None
        numbers = [number for fold in found.held_out.folds for number in fold]
        truth = torch.tensor([self._encoded.shots.truth[number] for number in numbers])
        return Predictions("folds", truth, found.held_out.icl, found.held_out.tuned)

    def _classified(self, resident: Resident) -> Tensor:
        """Probabilities (N, L) for the validation examples."""
        queries = [list(query) for query in self._encoded.validation]
        texts = [example.text for example in self._claim.spec.validation_examples]
        classify = partial(probabilities, self._base, resident, turn=self)
        parts = [slice(start, start + _AT_ONCE) for start in range(0, len(queries), _AT_ONCE)]
        return torch.cat([classify(queries[part], texts[part]) for part in parts])
