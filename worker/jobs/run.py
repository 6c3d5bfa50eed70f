"""One run of a job: from examples to a tuned context, with checkpoints on the way."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import safetensors.torch
import structlog
import torch
from safetensors import SafetensorError
from torch import Tensor

from app.contract.objects import Report, Served
from app.contract.tuning import ResolvedHyperparameters, TrialSettings
from app.records.claims import TuningClaim
from worker.artifacts import Artifacts
from worker.cpt.formats.bundle import Prompt, TunedContext, save
from worker.cpt.scoring.predict import Predictor
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.selection.result import SearchResult
from worker.cpt.selection.search import Search
from worker.cpt.tuning.tuner import CHUNK_TOKENS
from worker.device import Device, out_of_memory
from worker.evaluation.report import Predictions, report
from worker.jobs.defaults import search_settings
from worker.jobs.encoding import Encoded, encode
from worker.jobs.lease import Lease, Stopping
from worker.jobs.news import SearchNews, which_encoder, why_not_tuned
from worker.models import LanguageModel

#: Validation examples that are classified at once: their states take memory.
_AT_ONCE: Final = 512
#: From so many examples on, the fits that follow a search take seconds, of which a message tells.
_LONG_FITS_EXAMPLES: Final = 200
#: The format of checkpoints: one of another is not gone on from.
_CHECKPOINT_FORMAT: Final = "7"


@dataclass(frozen=True)
class Result:
    """What a job leaves: the artifact's bytes, what is known of its quality, and the last progress.

    ``encoder`` is the hash of the sentence encoder that the artifact needs, None where it needs none.
    """

    content: bytes
    report: Report
    fields: dict[str, str | int | float]
    encoder: str | None


class JobRun:
    """Runs a claimed job on ``base`` while ``lease`` holds, in chunks of so many tokens at most."""

    def __init__(
        self,
        claim: TuningClaim,
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
        self._chunk_tokens = chunk_tokens
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self._fraction_before = 0.0
        self._losses: list[float] = []
        self._search: Search = device.run(self._make_search)

    def to_end(self, checkpoint_seconds: float) -> Result:
        """Tune, measure and return the result.

        Raises `Cancelled`, `LeaseLost` or `Stopping` from between two chunks of work, and `Parked` after a checkpoint;
        when stopping in the midst of tuning, a checkpoint was written before.
        """
        self._resume()
        self._news = SearchNews(self._search, self._hyperparameters)
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
        self._lease.tell()
        if (examples := len(self._encoded.shots)) >= _LONG_FITS_EXAMPLES:
            self._lease.say("the search is done; what serves is fitted and measured", {"examples": examples})
        return self._device.run(self._result)

    def offer(self, _: float | None = None, /) -> None:
        """Be the job's turn: end a job that must not go on, and let queries pass."""
        self._lease.check()
        self._device.let_queries_pass()

    def _make_search(self) -> Search:
        base, resolved, encoded = self._base, self._hyperparameters, self._encoded
        return Search(
            base.model,
            base.encoders if resolved.encoder else (),
            encoded.shots,
            search_settings(base, resolved, encoded.shots),
            calibration_texts=encoded.calibration_texts if resolved.calibration else (),
            clock=self._seconds,
            chunk_tokens=self._chunk_tokens,
        )

    def _seconds(self) -> float:
        """Seconds that the job has run, on all workers that had it."""
        return self._seconds_before + time.monotonic() - self._started

    def _step(self) -> None:
        metrics = self._device.run(self._advance)
        self._lease.note(self._progress(), self._seconds_left(), metrics)
        for message in self._news.messages():
            self._lease.say(*message)

    def _seconds_left(self) -> float | None:
        """At the rate of the work so far, within the search's bound; None before any work."""
        done, elapsed = self._search.fraction - self._fraction_before, time.monotonic() - self._started
        if done <= 0:
            return None
        left, most = elapsed / done * (1 - self._search.fraction), self._hyperparameters.max_seconds
        return left if most is None else max(0.0, min(left, most - self._seconds()))

    def _advance(self) -> dict[str, Any] | None:
        """Do the next piece of work, and return what is to be told of it. To be called on the device."""
        loss = self._search.step(self)
        if loss is not None:
            self._losses.append(loss)
        return self._news.metrics(len(self._losses), tuned=loss is not None)

    def _progress(self) -> dict[str, str | int | float]:
        return {
            "step": len(self._losses),
            "total_steps": max(len(self._losses), self._search.total_steps),  # those of a dropped trial were done too
            "fraction": round(self._search.fraction, 4),
            "trained_tokens": self._search.trained_tokens,
        }

    def _save(self, state: dict[str, Tensor]) -> bool:
        """Write the state after the last completed step as the job's checkpoint; without one, tuning still goes on."""
        whole = {name: tensor.contiguous() for name, tensor in state.items()}
        content = safetensors.torch.save(whole, metadata=self._checkpoint_metadata())
        try:
            self._artifacts.put_checkpoint(self._claim.job_id, content)
        except Exception as error:  # noqa: BLE001 - any file system, any reason: a checkpoint is only a saving of time
            structlog.get_logger().warning("checkpoint_not_written", job_id=self._claim.job_id, reason=str(error))
            return False
        return True

    def _checkpoint_metadata(self) -> dict[str, str]:
        notes = {"losses": self._losses, "seconds": self._seconds()}
        return {"notes": json.dumps(notes), **self._arithmetic}

    @property
    def _arithmetic(self) -> dict[str, str]:
        """What a checkpoint was written and computed with."""
        encoders = self._search.encoding.encoders
        return {
            "format": _CHECKPOINT_FORMAT,
            **self._base.arithmetic,
            "encoders": " ".join(encoder.fingerprint for encoder in encoders),
        }

    def _resume(self) -> None:
        """Go on from the job's checkpoint if there is one that can be used; else from the start."""
        try:
            content = self._artifacts.get_checkpoint(self._claim.job_id)
            if content is None:
                if self._claim.attempt > 1:
                    self._lease.say("beginning again: there is no checkpoint", {"attempt": self._claim.attempt})
                return
            header_bytes = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + header_bytes])["__metadata__"]
            notes = json.loads(metadata.pop("notes"))
            losses, seconds = [float(loss) for loss in notes["losses"]], float(notes["seconds"])
            if metadata != self._arithmetic:
                raise ValueError("it is of another format, model, encoder, dtype or kind of device")
            state = safetensors.torch.load(content)
            self._device.run(partial(self._search.load_state, state))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            if error.__cause__ is not None and out_of_memory(error.__cause__):
                raise error.__cause__ from None  # with smaller chunks the same checkpoint may find room
            structlog.get_logger().warning("checkpoint_not_usable", job_id=self._claim.job_id, reason=str(error))
            data = {"attempt": self._claim.attempt}
            self._lease.say("beginning again: the checkpoint cannot be used here", data, level="warning")
            return
        self._losses, self._seconds_before, self._fraction_before = losses, seconds, self._search.fraction
        if not self._claim.parked:
            data = {"attempt": self._claim.attempt, "step": len(losses)}
            self._lease.say(f"going on from the checkpoint after step {len(losses)}", data)

    def _result(self) -> Result:
        """What was found, and what is known of it. To be called on the device."""
        found = self._search.result(self)
        served = self._served(found)
        told = which_encoder(self._search, found), why_not_tuned(self._hyperparameters, found, served)
        for message in told:
            if message is not None:
                self._lease.say(*message)
        if measured := len(self._claim.spec.validation_examples):
            self._lease.say(f"measuring {measured} validation examples", {"validation_examples": measured})
        reported = report(self._base, self._claim, found, self._measured(found), served, self)
        fields = self._progress() | {
            "total_steps": len(self._losses),
            "fraction": 1.0,
            "hyperparameters": self._hyperparameters_of(found).model_dump_json(),
        }
        encoder = None if found.encoder is None else found.encoder.fingerprint
        return Result(self._dump(found, encoder), reported, fields, encoder)

    def _served(self, found: SearchResult) -> Served:
        if found.trial.steps > 0:
            return "tuned"
        return "calibrated" if found.classifier is not None else "icl"

    def _hyperparameters_of(self, found: SearchResult) -> ResolvedHyperparameters:
        """The hyperparameters with what was chosen, and with the trials as they were done: they give the same again."""
        done = tuple(
            TrialSettings(
                steps=one.trial.steps,
                context_examples=one.trial.context_examples,
                examples=max(1, min(one.trial.examples, one.examples) if one.examples else one.trial.examples),
                prompts=one.trial.prompts,
                scored_examples=one.trial.scored_examples,
            )
            for one in found.outcomes
            if one.status == "done"
        )
        # Another encoder than the first was chosen beside the first as it is tuned: so will the same job choose again.
        other = found.encoder not in {None, *self._base.encoders[:1]}
        encoder_steps = self._search.encoding.steps if other else found.encoder_steps
        return self._hyperparameters.model_copy(
            update={"steps": found.trial.steps, "encoder_steps": encoder_steps, "trials": done}
        )

    def _dump(self, found: SearchResult, encoder: str | None) -> bytes:
        spec = self._claim.spec
        return save(
            TunedContext(
                prompts=tuple(Prompt(one.tokens, one.embedding, one.delta) for one in found.prompts),
                metadata={
                    "context_id": self._claim.context_id,
                    "model": self._claim.model,
                    "model_sha256": self._base.fingerprint,
                    "labels": spec.label_names,
                    "label_ids": self._encoded.shots.label_ids,
                    "template": spec.template.model_dump(),
                    "encoder": encoder,
                },
                classifier=found.classifier,
            )
        )

    def _measured(self, found: SearchResult) -> Predictions | None:
        """Predictions for the validation examples or else for those that were held out, if there are either."""
        spec = self._claim.spec
        if spec.validation_examples:
            names = spec.label_names
            truth = torch.tensor([names.index(example.label) for example in spec.validation_examples])
            plain = [PrefixKV.compute(self._base.model, prompt.embedding) for prompt in found.prompts[:1]]
            icl = served = self._classified(Predictor(tuple(plain), self._encoded.shots.label_ids))
            if self._hyperparameters.method != "icl":
                tuned = [PrefixKV.compute(self._base.model, prompt.embeds) for prompt in found.prompts]
                served = self._classified(
                    Predictor(tuple(tuned), self._encoded.shots.label_ids, found.classifier, found.encoder)
                )
            return Predictions("validation_examples", truth, icl, served)
        if found.held_out is None:
            return None
        truth = torch.tensor([self._encoded.shots.truth[number] for number in found.held_out.numbers])
        return Predictions("folds", truth, found.held_out.icl, found.held_out.served)

    def _classified(self, predictor: Predictor) -> Tensor:
        """Probabilities (N, L) for the validation examples."""
        queries, texts = self._encoded.validation, self._encoded.validation_texts
        parts = [slice(start, start + _AT_ONCE) for start in range(0, len(queries), _AT_ONCE)]
        classify = partial(predictor.probabilities, self._base.model, turn=self)
        return torch.cat([classify(queries[part], texts[part]) for part in parts])
