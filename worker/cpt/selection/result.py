"""What a search ends with: the prompts that serve, the classifier over them, and what held-out examples say of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.head import Head
from worker.cpt.scoring.mixture import Mixture
from worker.cpt.selection import choice
from worker.cpt.selection.encoder_part import ServingEncoder
from worker.cpt.selection.encoding import Encoding
from worker.cpt.selection.evidence import Evidence, Parts, gather, state_heads
from worker.cpt.selection.folds import balanced_folds
from worker.cpt.selection.influence import MOST_TRIED, Suspect, harmful_examples, suspects_among
from worker.cpt.selection.trials import Outcome, Status, Trial, TunedPrompt
from worker.cpt.turn import Turn

if TYPE_CHECKING:
    from worker.cpt.model.sentence_encoder import SentenceEncoder
    from worker.cpt.selection.search import SearchSettings
    from worker.cpt.selection.task import Task
    from worker.cpt.selection.trial_run import TrialRun


@dataclass(frozen=True)
class HeldOut:
    """Probabilities [N, L] float64 for the examples `numbers` by what has not seen them.

    icl: plain label scores under prompts that are not tuned, None where there are none. served: trial and mixture are
    chosen without them; encoder, penalties, shortlist on them.
    """

    numbers: tuple[int, ...]
    icl: Tensor | None
    served: Tensor


@dataclass(frozen=True)
class SearchResult:
    """prompts: those that serve. classifier: None where the label scores under one prompt are all there is.

    trial: what serves. losses: of the steps of its last prompt. harmful: (number, gain) of examples, see `influence`.
    encoder: the one that serves, None where none does. encoder_steps: of its tuning, 0 for the encoder as it is.
    """

    prompts: tuple[TunedPrompt, ...]
    classifier: Classifier | None
    trial: Trial
    outcomes: tuple[Outcome, ...]
    config: Mapping[str, Any]
    losses: tuple[float, ...]
    held_out: HeldOut | None
    suspect: tuple[Suspect, ...]
    harmful: tuple[tuple[int, float], ...]
    encoder: SentenceEncoder | None = None
    encoder_steps: int = 0


@dataclass(frozen=True)
class _Candidate:
    """A trial that was done: its evidence, and its parts [M, N, L] with those of the encoder."""

    run: TrialRun
    evidence: Evidence
    serving: Parts
    parts: Tensor


def conclude(
    settings: SearchSettings,
    task: Task,
    encoding: Encoding,
    runs: Sequence[TrialRun | None],
    statuses: Sequence[Status],
    turn: Turn,
) -> SearchResult:
    """The result of a search that is finished. Deterministic."""
    return _Conclusion(settings, task, encoding, turn).of(runs, statuses)


class _Conclusion:
    """Judges the trials of a search on what is held out, and makes of the best what serves."""

    def __init__(self, settings: SearchSettings, task: Task, encoding: Encoding, turn: Turn) -> None:
        self._settings = settings
        self._shots = task.shots
        self._seed = settings.tuning.seed
        self._turn = turn
        self._numbers = encoding.frozen.numbers
        self._encoder: ServingEncoder | None = None
        if encoding.frozen.examples:
            truth = torch.tensor([self._shots.truth[number] for number in self._numbers])
            self._encoder = ServingEncoder.of(encoding, truth, len(self._shots.labels), self._encoder_folds, turn)

    def of(self, runs: Sequence[TrialRun | None], statuses: Sequence[Status]) -> SearchResult:
        candidates = {number: self._candidate(run) for number, run in enumerate(runs) if run is not None}
        nested = {number: self._nested(one) for number, one in candidates.items()}
        chosen = self._choose(candidates, nested, range(len(self._rows(candidates))))
        one = candidates[chosen]
        classifier, served = self._classifier(one)
        held_out = self._held_out(candidates, nested, served, chosen)
        return SearchResult(
            prompts=one.run.prompts(),
            classifier=classifier,
            trial=one.run.trial,
            outcomes=self._outcomes(candidates, nested, statuses),
            config=self._settings.config,
            losses=tuple(one.run.records[-1].losses),
            held_out=held_out,
            suspect=self._suspects(held_out),
            harmful=self._harmful(),
            encoder=None if self._encoder is None else self._encoder.encoder,
            encoder_steps=self._encoder_steps,
        )

    @property
    def _encoder_steps(self) -> int:
        return 0 if self._encoder is None else self._encoder.steps

    @property
    def _encoder_folds(self) -> list[list[int]]:
        """Places of the examples that heads on vectors of the encoder as it is are judged on, fold by fold."""
        truth = [self._shots.truth[number] for number in self._numbers]
        return balanced_folds(range(len(truth)), truth, self._seed)

    def _of_encoder(self, numbers: Sequence[int]) -> Tensor:
        """[n, L] held-out log-probabilities of the encoder's heads; even ones where there are none."""
        assert self._encoder is not None  # noqa: S101 - asked for only where there is one
        even = torch.zeros(len(self._shots.labels), dtype=torch.float64).log_softmax(0)
        places = {number: place for place, number in enumerate(self._numbers)}
        predicted = self._encoder.part.fit.predicted
        rows = [predicted[places[number]] if number in places else even for number in numbers]
        return torch.stack(rows) if rows else torch.zeros(0, len(even), dtype=torch.float64)

    # Trials.

    def _candidate(self, run: TrialRun) -> _Candidate:
        settings = self._settings
        evidence, serving = gather(
            self._shots,
            run.plans,
            run.records,
            calibrated=settings.calibrated,
            heads=settings.heads,
            seed=self._seed,
            turn=self._turn,
        )
        parts = [evidence.labels] + ([] if evidence.states is None else [evidence.states])
        if self._encoder is not None:
            parts.append(self._of_encoder(evidence.numbers))
        return _Candidate(run, evidence, serving, torch.stack(parts))

    def _prior(self, one: _Candidate) -> list[float]:
        """The weights of the parts unless held-out examples say otherwise; of a lone part 1 if nothing is fitted."""
        settings = self._settings
        if not settings.calibrated and not settings.heads and self._encoder is None:
            return [1.0]
        given = settings.heads, self._encoder is not None, self._encoder_steps > 0, len(one.evidence.truth)
        labels, *heads = choice.prior_weights(self._shots, *given)
        return [0.0 if one.evidence.icl is None else labels, *heads]

    def _nested(self, one: _Candidate) -> Tensor:
        prior, calibrated = self._prior(one), self._settings.calibrated
        return choice.nested_mixture(one.parts, one.evidence.truth, prior, calibrated, self._seed, self._turn)

    def _rows(self, candidates: Mapping[int, _Candidate]) -> list[int]:
        """Examples that all trials have held out, in the order of the first."""
        known = [set(one.evidence.numbers) for one in candidates.values()]
        return [
            number for number in next(iter(candidates.values())).evidence.numbers if all(number in k for k in known)
        ]

    def _losses(self, one: _Candidate, nested: Tensor, rows: Sequence[int]) -> Tensor:
        places = {number: place for place, number in enumerate(one.evidence.numbers)}
        chosen = [places[number] for number in rows]
        return choice.losses(nested[chosen], one.evidence.truth[chosen])

    def _choose(self, candidates: Mapping[int, _Candidate], nested: Mapping[int, Tensor], kept: Sequence[int]) -> int:
        """The trial that serves, by some of the rows that all have."""
        rows = self._rows(candidates)
        done, preferred = max(candidates), self._settings.preferred
        if preferred is None:
            return done
        preferred = max(number for number in candidates if number <= max(preferred, min(candidates)))
        some = [rows[place] for place in kept]
        return choice.choose(preferred, {n: self._losses(one, nested[n], some) for n, one in candidates.items()})

    def _classifier(self, one: _Candidate) -> tuple[Classifier | None, Tensor]:
        """The classifier of a trial, and nested probabilities of what it has held out."""
        settings, truth, prior = self._settings, one.evidence.truth, self._prior(one)
        nested = self._nested(one)
        records = [r for plan, r in zip(one.run.plans, one.run.records, strict=True) if plan.served]
        if not settings.calibrated and not settings.heads and self._encoder is None and len(records) == 1:
            return None, nested
        shortlist: int | None = None
        cheap: Mixture | None = None
        if one.evidence.icl is None:
            shortlist, cheap = 0, choice.mixture_of(one.parts[1:], truth, prior[1:], settings.calibrated, self._turn)
        elif settings.calibrated and len(one.parts) > 1:
            shortlist, cheap, nested = choice.shortlist_of(one.parts, truth, prior, self._seed, self._turn)
        penalties = one.serving.state_penalties[len(one.run.records) - len(records) :]
        heads = state_heads(self._shots, records, penalties, self._turn) if settings.heads else ()
        mixture = choice.mixture_of(one.parts, truth, prior, settings.calibrated, self._turn)
        return Classifier(
            score_bias=one.serving.score_bias,
            mixture=mixture,
            state_heads=heads,
            encoder_head=self._encoder_head(),
            encoder_change=None if self._encoder is None else self._encoder.part.change,
            shortlist=shortlist,
            cheap=None if shortlist is None else cheap,
        ), nested

    def _encoder_head(self) -> Head | None:
        if self._encoder is None:
            return None
        return self._encoder.part.given.fit(self._encoder.part.fit.penalty, self._turn)

    # What held-out examples say.

    def _held_out(
        self, candidates: Mapping[int, _Candidate], nested: Mapping[int, Tensor], served: Tensor, chosen: int
    ) -> HeldOut | None:
        """Each fold as the trial that the other folds choose predicts it: the choice has not seen it either."""
        one, rows = candidates[chosen], self._rows(candidates)
        if not rows:  # given trials may hold out others
            return None
        truth = torch.tensor([self._shots.truth[number] for number in rows])
        known = {number: dict(zip(c.evidence.numbers, nested[number], strict=True)) for number, c in candidates.items()}
        known[chosen] = dict(zip(one.evidence.numbers, served, strict=True))

        def fit(kept: Sequence[int]) -> Callable[[Sequence[int]], Tensor]:
            number = self._choose(candidates, nested, kept) if kept else chosen
            return lambda places: torch.stack([known[number][rows[place]] for place in places])

        plain = self._plain(candidates)
        return HeldOut(
            numbers=tuple(rows),
            icl=None if plain is None else torch.stack([plain[number] for number in rows]).softmax(1),
            served=choice.nested(fit, truth, self._seed),
        )

    @staticmethod
    def _plain(candidates: Mapping[int, _Candidate]) -> dict[int, Tensor] | None:
        """Label scores under the prompts that were not tuned, if there are any."""
        for one in candidates.values():
            if one.run.trial.steps == 0 and one.evidence.icl is not None:
                return dict(zip(one.evidence.numbers, one.evidence.icl, strict=True))
        return None

    def _outcomes(
        self, candidates: Mapping[int, _Candidate], nested: Mapping[int, Tensor], statuses: Sequence[Status]
    ) -> tuple[Outcome, ...]:
        found = []
        for number, (trial, status) in enumerate(zip(self._settings.trials, statuses, strict=True)):
            if number not in candidates:
                found.append(Outcome(trial, status))
                continue
            one, right = candidates[number], nested[number].argmax(1) == candidates[number].evidence.truth
            loss = choice.losses(nested[number], one.evidence.truth)
            known = len(loss) > 0
            found.append(
                Outcome(
                    trial=one.run.trial,
                    status=status,
                    examples=len(one.run.records[-1].numbers),
                    nll=loss.mean().item() if known else None,
                    accuracy=right.double().mean().item() if known else None,
                )
            )
        return tuple(found)

    def _suspects(self, held_out: HeldOut | None) -> tuple[Suspect, ...]:
        """Of the examples that were held out, and of those that the encoder alone has predicted.

        None where these are few: nothing was fitted to them, so that their predictions are too sure.
        """
        if held_out is None or not self._settings.calibrated or len(held_out.numbers) < choice.FEWEST_DECIDING:
            return ()
        rest = [number for number in self._numbers if number not in set(held_out.numbers)]
        numbers, predicted = [*held_out.numbers, *rest], held_out.served
        if self._encoder is not None and rest:
            predicted = torch.cat([predicted, self._of_encoder(rest).exp()])
        return suspects_among(numbers, predicted, self._shots.truth)

    def _harmful(self) -> tuple[tuple[int, float], ...]:
        """By the encoder as it is: one that is tuned has seen them all."""
        if self._encoder is None or len(self._shots) > MOST_TRIED:
            return ()
        given, penalty = self._encoder.frozen.given, self._encoder.frozen.fit.penalty
        found = harmful_examples(given, penalty, self._encoder_folds, self._turn)
        return tuple((self._numbers[place], gain) for place, gain in found)
