"""What a job's user is told while it runs: figures of its steps and trials, and in words what was not to be expected.

Knows what is told, not how it reaches anybody.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from app.contract.tuning import ResolvedHyperparameters
from worker.cpt.selection.result import SearchResult
from worker.cpt.selection.search import Search
from worker.cpt.selection.trials import Outcome

_SURPASSED: Final = (
    ": as they are, another one tells these labels apart better by their means; "
    "held-out examples say in the end which one serves"
)


class Message(NamedTuple):
    """A message, and the same for programs."""

    text: str
    data: dict[str, Any]


class SearchNews:
    """News of a search, from where it stands now on."""

    def __init__(self, search: Search, hyperparameters: ResolvedHyperparameters) -> None:
        self._search = search
        self._hyperparameters = hyperparameters
        self._settled = len(search.statuses)
        self._encoder_steps = search.encoding.steps
        self._other_encoders = len(search.encoding.others)
        self._held_out: dict[str, Any] | None = None
        self._note_held_out(0)

    def metrics(self, step: int, *, tuned: bool) -> dict[str, Any] | None:
        """Figures after a piece of work; ``step`` counts the steps of all trials, ``tuned`` says whether it was one.

        ``held_out`` has the scores of the newest trial that is done. None where nothing is new.
        """
        settled, before = len(self._search.statuses), self._settled
        self._note_held_out(before)
        if not tuned and settled == before:
            return None
        figures = self._search.last_step()
        known = {} if figures is None else {"trial": before, **_finite(asdict(figures))}
        return {"step": step, **known, "held_out": self._held_out}

    def messages(self) -> list[Message]:
        """What was dropped since this was last asked: encoders, tuning of the first, trials."""
        statuses, total = self._search.statuses, len(self._hyperparameters.trials)
        first, self._settled = self._settled, len(statuses)
        before, self._encoder_steps = self._encoder_steps, self._search.encoding.steps
        others, self._other_encoders = self._other_encoders, len(self._search.encoding.others)
        budget = self._hyperparameters.max_seconds
        reason = f": max_seconds ({budget:.0f} s) leaves no time for it" if budget is not None else ""
        dropped = [
            Message(f"trial {number + 1} of {total} was dropped{reason}", {"trial": number, "status": "dropped"})
            for number in range(first, len(statuses))
            if statuses[number] == "dropped"
        ]
        if others and not self._other_encoders:
            names = ", ".join(encoder.name for encoder in self._search.encoding.encoders[1:])
            text = f"the sentence encoder {names} was dropped{reason}"
            dropped.insert(0, Message(text, {"encoders": names, "status": "dropped"}))
        if before and not self._encoder_steps:
            data = {"encoder_steps": before, "status": "dropped"}
            why = _SURPASSED if self._search.encoding.surpassed else reason
            dropped.insert(0, Message(f"the tuning of the sentence encoder was dropped{why}", data))
        return dropped

    def _note_held_out(self, first: int) -> None:
        for trial in range(first, len(self._search.statuses)):
            scores = self._search.held_out(trial)
            if scores is not None:
                self._held_out = {"trial": trial, **_finite(asdict(scores))}


def why_not_tuned(hyperparameters: ResolvedHyperparameters, found: SearchResult, served: str) -> Message | None:
    """Why a job that was to tune serves a context that is not; None where it does, or was not to."""
    planned = [one for one in found.outcomes if one.trial.steps > 0]
    unscored = hyperparameters.max_seconds is not None and found.trial.scored_examples == 0
    if hyperparameters.method == "icl" or found.trial.steps > 0 or not (planned or unscored):
        return None
    done, plain = [one for one in planned if one.status == "done"], _serving(found)
    kind = "calibrated" if served == "calibrated" else "plain"
    loss, tuned = plain.nll if plain else None, _least(done)
    data = {"served": served, "nll": loss, "tuned_nll": tuned}
    if not planned:
        reason = "there was no time to score so many labels within max_seconds, and prompts are tuned for their scores"
    elif not done:
        reason = "there was no time to tune within max_seconds"
    elif loss is not None and tuned is not None and tuned > loss:
        reason = f"held-out examples are predicted better by it (log loss {loss:.3f}, tuned {tuned:.3f})"
    else:
        reason = "with so many examples of a label tuning gains no more than chance would"
    return Message(f"the {kind} context serves, not a tuned one: {reason}", data)


def which_encoder(search: Search, found: SearchResult) -> Message | None:
    """Which sentence encoder serves and why, where not the first one does, tuned if it was tuned."""
    encoders, reason = search.encoding.encoders, "held-out examples are predicted better by it"
    if found.encoder is not None and found.encoder is not encoders[0]:
        text = f"the sentence encoder {found.encoder.name} serves, not {encoders[0].name}: {reason}"
        return Message(text, {"encoder": found.encoder.name})
    if not search.encoding.steps or found.encoder_steps:
        return None
    return Message(f"the sentence encoder serves as it is, not tuned: {reason}", {"encoder_steps": 0})


def _serving(found: SearchResult) -> Outcome | None:
    return next((one for one in found.outcomes if one.trial == found.trial and one.status == "done"), None)


def _least(outcomes: list[Outcome]) -> float | None:
    return min((one.nll for one in outcomes if one.nll is not None), default=None)


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures that JSON can hold: what is no number becomes null."""
    return {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in figures.items()}
