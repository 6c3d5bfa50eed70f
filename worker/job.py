"""One run of a job: from examples to a tuned context, with checkpoints on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import safetensors.torch
import structlog
import torch
from safetensors import SafetensorError
from torch import Tensor

from app.contract.objects import Metrics
from app.contract.tuning import ResolvedHyperparameters
from app.records.store import Claim
from worker.artifacts import Artifacts
from worker.cpt.adapter import TunedContext, save
from worker.cpt.prefix import PrefixKV
from worker.cpt.scorer import score
from worker.cpt.tuner import Tuner, TuningSettings
from worker.device import Device
from worker.lease import Lease, Stopping
from worker.metrics import confusion_matrix, evaluate, per_label
from worker.models import BaseModel
from worker.planning import Encoded, encode, tokens_per_step

#: Validation examples scored before the device is given to others (inputs).
_VALIDATION_BATCH: Final = 32


@dataclass(frozen=True)
class Result:
    """What a job leaves: the artifact's bytes, what is known of its quality, and the last progress."""

    content: bytes
    metrics: Metrics
    fields: dict[str, str | int | float]


class JobRun:
    """Runs a claimed job on ``base`` while ``lease`` holds."""

    def __init__(self, claim: Claim, base: BaseModel, artifacts: Artifacts, device: Device, lease: Lease) -> None:
        self._claim = claim
        self._base = base
        self._artifacts = artifacts
        self._device = device
        self._lease = lease
        self._encoded: Encoded = encode(base, claim.spec)
        self._hyperparameters: ResolvedHyperparameters = claim.hyperparameters
        self._tuner = device.run(partial(_tuner, base, self._encoded, claim.hyperparameters))
        self._losses: list[float] = []
        self._tokens_per_step = tokens_per_step(self._encoded, claim.hyperparameters.batch_size)
        self._started = time.monotonic()
        self._started_at_step = 0

    def to_end(self, checkpoint_seconds: float) -> Result:
        """Tune, measure and return the result.

        Raises `Cancelled`, `LeaseLost` or `Stopping` from between two chunks of work; when stopping in the midst of
        tuning, a checkpoint was written before.
        """
        self._resume()
        saved = time.monotonic()
        while len(self._losses) < self._hyperparameters.steps:
            state = self._device.run(self._tuner.state)
            try:
                self._step()
            except Stopping:
                self._save(state)
                raise
            if time.monotonic() - saved >= checkpoint_seconds:
                self._save(self._device.run(self._tuner.state))
                saved = time.monotonic()
        return Result(self._device.run(self._dump), self._measure(), self._progress(0.0))

    def _step(self) -> None:
        self._losses.append(self._device.run(partial(self._tuner.step, self._between_chunks)))
        self._note(0.0)

    def _between_chunks(self, fraction: float) -> None:
        """Called within a step, with the share of it that is done."""
        self._lease.check()
        self._note(fraction)
        self._device.let_queries_pass()

    def _note(self, fraction: float) -> None:
        done = len(self._losses) - self._started_at_step + fraction
        elapsed = time.monotonic() - self._started
        left = self._hyperparameters.steps - len(self._losses) - fraction
        self._lease.note(self._progress(fraction), elapsed / done * left if done > 0 else None)

    def _progress(self, fraction: float) -> dict[str, str | int | float]:
        steps, done = self._hyperparameters.steps, len(self._losses)
        return {
            "step": done,
            "fraction": round((done + fraction) / steps, 4) if steps else 1.0,
            "trained_tokens": done * self._tokens_per_step,
        }

    def _save(self, state: dict[str, Tensor]) -> None:
        """Write the state after the last completed step as the job's checkpoint; without one, tuning still goes on."""
        content = safetensors.torch.save(state, metadata={"losses": json.dumps(self._losses)})
        try:
            self._artifacts.put_checkpoint(self._claim.job_id, content)
        except Exception as error:  # noqa: BLE001 - any file system, any reason: a checkpoint is only a saving of time
            structlog.get_logger().warning("checkpoint_not_written", job_id=self._claim.job_id, reason=str(error))

    def _resume(self) -> None:
        """Go on from the job's checkpoint if there is one that can be used; else from the start."""
        try:
            content = self._artifacts.get_checkpoint(self._claim.job_id)
            if content is None:
                return
            header_bytes = int.from_bytes(content[:8], "little")
            losses = json.loads(json.loads(content[8 : 8 + header_bytes])["__metadata__"]["losses"])
            self._tuner.load_state(safetensors.torch.load(content))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            structlog.get_logger().warning("checkpoint_not_usable", job_id=self._claim.job_id, reason=str(error))
            return
        self._losses = losses
        self._started_at_step = len(losses)

    def _dump(self) -> bytes:
        spec = self._claim.spec
        return save(
            TunedContext(
                tokens=self._encoded.context.tokens,
                embedding=self._tuner.embedding.embedding.weight.detach(),
                delta=self._tuner.embedding.delta_embedding.weight.detach(),
                metadata={
                    "context_id": self._claim.context_id,
                    "model": self._claim.model,
                    "labels": spec.label_names,
                    "label_ids": self._encoded.label_ids,
                    "template": spec.template.model_dump(),
                },
            )
        )

    def _measure(self) -> Metrics:
        """Quality of the plain and of the tuned context on the validation examples, if there are any."""
        embedding, tuned = self._tuner.embedding, self._hyperparameters.method != "icl"
        metrics = Metrics(served="tuned" if tuned else "icl", loss_curve=tuple(self._losses))
        if not self._encoded.validation:
            return metrics
        labels, examples = self._claim.spec.label_names, self._claim.spec.validation_examples
        truth = torch.tensor([labels.index(example.label) for example in examples])
        plain = self._classified(embedding.embedding.weight.detach())
        served = self._classified(self._device.run(embedding.tuned)) if tuned else plain
        matrix = confusion_matrix(served, truth)
        return metrics.model_copy(
            update={
                "icl": evaluate(plain, truth),
                "tuned": evaluate(served, truth) if tuned else None,
                "confusion_matrix": matrix,
                "per_label": dict(zip(labels, per_label(matrix), strict=True)),
            }
        )

    def _classified(self, embeddings: Tensor) -> Tensor:
        """Probabilities (N, L) for the validation examples after a context with these embeddings (T, H)."""
        queries = self._encoded.validation
        prefix = self._device.run(partial(PrefixKV.compute, self._base.model, embeddings))
        starts = range(0, len(queries), _VALIDATION_BATCH)
        batches = [self._probabilities(prefix, queries[start : start + _VALIDATION_BATCH]) for start in starts]
        return torch.cat(batches)

    def _probabilities(self, prefix: PrefixKV, queries: Sequence[Sequence[int]]) -> Tensor:
        self._lease.check()
        scores = self._device.run(partial(score, self._base.model, prefix, self._encoded.label_ids, queries))
        return scores.double().softmax(dim=1)


def _tuner(base: BaseModel, encoded: Encoded, hyperparameters: ResolvedHyperparameters) -> Tuner:
    config = encoded.context.config(
        opt_weighted_loss_type=hyperparameters.weighted_loss_type,
        opt_loss_decay_factor=hyperparameters.loss_decay_factor,
        opt_projection_epsilon=hyperparameters.projection_epsilon,
        opt_projection_format_epsilon=hyperparameters.projection_format_epsilon,
    )
    settings = TuningSettings(
        steps=hyperparameters.steps,
        learning_rate=hyperparameters.learning_rate,
        batch_size=hyperparameters.batch_size,
        seed=hyperparameters.seed,
        leave_one_out=hyperparameters.leave_one_out,
        token_dropout=hyperparameters.token_dropout,
    )
    return Tuner(base.model, encoded.context, encoded.training, config, settings)
