"""One run of a job: from examples to a tuned context, with checkpoints on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import safetensors.torch
import torch
from torch import Tensor

from app.contract.objects import Metrics, Score
from app.contract.tuning import ResolvedHyperparameters
from app.records.store import Claim
from worker.artifacts import Artifacts
from worker.cpt.adapter import TunedContext, save
from worker.cpt.context import encode_query
from worker.cpt.prefix import PrefixKV
from worker.cpt.scorer import score
from worker.cpt.tuner import Tuner, TuningSettings
from worker.device import Device
from worker.lease import Lease, Stopping
from worker.metrics import evaluate
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

        Raises `Cancelled`, `LeaseLost` or `Stopping` from between two chunks of work; a checkpoint was written before.
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
        """Write the state after the last completed step as the job's checkpoint."""
        content = safetensors.torch.save(state, metadata={"losses": json.dumps(self._losses)})
        self._artifacts.put_checkpoint(self._claim.job_id, content)

    def _resume(self) -> None:
        """Go on from the job's checkpoint if there is one."""
        content = self._artifacts.get_checkpoint(self._claim.job_id)
        if content is None:
            return
        self._tuner.load_state(safetensors.torch.load(content))
        header_bytes = int.from_bytes(content[:8], "little")
        self._losses = json.loads(json.loads(content[8 : 8 + header_bytes])["__metadata__"]["losses"])
        self._started_at_step = len(self._losses)

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
        embedding = self._tuner.embedding
        tuned = self._hyperparameters.method != "icl"
        return Metrics(
            icl=self._score(embedding.embedding.weight.detach()),
            tuned=self._score(self._device.run(embedding.tuned)) if tuned else None,
            served="tuned" if tuned else "icl",
            loss_curve=tuple(self._losses),
        )

    def _score(self, embeddings: Tensor) -> Score | None:
        """Quality on the validation examples of the context with these embeddings (T, H); None without examples."""
        examples = self._claim.spec.validation_examples
        if not examples:
            return None
        labels = self._claim.spec.label_names
        queries = [encode_query(self._base.tokenizer, self._encoded.template, example.text) for example in examples]
        truth = torch.tensor([labels.index(example.label) for example in examples])
        prefix = self._device.run(partial(PrefixKV.compute, self._base.model, embeddings))
        starts = range(0, len(queries), _VALIDATION_BATCH)
        batches = [self._probabilities(prefix, queries[start : start + _VALIDATION_BATCH]) for start in starts]
        return evaluate(torch.cat(batches), truth)

    def _probabilities(self, prefix: PrefixKV, queries: Sequence[list[int]]) -> Tensor:
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
