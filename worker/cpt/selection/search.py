"""From labelled texts to a classifier: which way of tuning is best is judged on held-out folds, then all is tuned.

A search is a row of tuning runs. Each *trial* tunes one of several ways on all examples but those of one fold and
scores these at every stop. The last run tunes all examples the way that did best. Without folds it is the only run, and
with nothing to choose, mix or calibrate it is CPT as the paper has it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.encoding.context import Tokens
from worker.cpt.encoding.shots import Shots
from worker.cpt.scoring.classifier import Classifier, label_part
from worker.cpt.scoring.mixture import Mixture, usual_mixture
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score
from worker.cpt.scoring.text_head import TextHead
from worker.cpt.selection.choice import Candidate, choose, mixture_of, nested_probabilities
from worker.cpt.selection.folds import FEWEST, spread, stratified_folds
from worker.cpt.tuning.tuner import CHUNK_TOKENS, Tuner, TuningSettings
from worker.cpt.turn import ALONE, Turn

#: What a mixture usually weighs its parts: label scores, the head.
_USUAL_SCORES: Final = 0.5
_USUAL_HEAD: Final = 1.0


@dataclass(frozen=True)
class SearchSettings:
    """How to search. `tuning.steps` are those of every trial, and the most of the last run.

    configs: the ways of tuning, each the settings of a CPTConfig; the first is taken where nothing can be judged.
    stops: numbers of steps after which a run may end, at most `tuning.steps`, which must be among them; 0 is not to
        tune.
    folds, calibration, head: whether to hold out, to calibrate on what was held out, and to mix a head in.
    most_held_out, most_for_bias: examples that are held out in all, and that a context's bias is measured on, at most:
        more cost time and tell little.
    """

    tuning: TuningSettings
    configs: tuple[Mapping[str, Any], ...]
    stops: tuple[int, ...]
    folds: bool = False
    calibration: bool = False
    head: bool = False
    most_held_out: int = 192
    most_for_bias: int = 64

    @property
    def usual(self) -> tuple[float, ...]:
        """What a mixture usually weighs its parts."""
        if not self.head:
            return (_USUAL_SCORES if self.calibration else 1.0,)
        return (_USUAL_SCORES, _USUAL_HEAD)


@dataclass(frozen=True)
class HeldOut:
    """Probabilities [N, L] float64 for examples by models that have not seen them; `folds` hold their numbers."""

    folds: tuple[tuple[int, ...], ...]
    icl: Tensor
    tuned: Tensor


@dataclass(frozen=True)
class Found:
    """What a search ends with. embedding, delta: [T, H] of the context; epsilon: [T]; steps: those of the last run.

    harmful: see `harmful_examples`.
    """

    tokens: Tokens
    embedding: Tensor
    delta: Tensor
    epsilon: Tensor
    classifier: Classifier
    config: Mapping[str, Any]
    steps: int
    held_out: HeldOut | None
    harmful: tuple[tuple[int, float], ...]


class Search:
    """Searches on `shots` for a transformers model, step by step; goes on from a `state` as if unbroken.

    `context_length` is the model's, in tokens. For the rest see `Tuner`, whose errors it raises.
    """

    def __init__(
        self,
        model: Any,
        shots: Shots,
        settings: SearchSettings,
        context_length: int,
        *,
        chunk_tokens: int = CHUNK_TOKENS,
        memory: int | None = None,
    ) -> None:
        self._model = model
        self._shots = shots
        self._settings = settings
        self._bounds: dict[str, Any] = {"chunk_tokens": chunk_tokens, "memory": memory}
        self._folds = held_out_folds(shots, settings)
        self._trials = len(self._folds) * len(settings.configs)
        # Numbers of the examples that the runs of each fold may see, then those of the last run: all.
        held_out = [*map(set, self._folds), set()]
        self._kept = [[number for number in range(len(shots)) if number not in fold] for fold in held_out]
        self._tokens = [shots.tokens_per_step(kept, settings.tuning.batch_size) for kept in self._kept]
        self._run = 0
        self._measured: dict[str, Tensor] = {}
        self._head = TextHead(model, shots, context_length, self._folds)
        self._chosen: Candidate = (0, settings.tuning.steps)
        self._tuner = self._make_tuner()

    @property
    def total_steps(self) -> int:
        """Steps of all runs; the last may stop sooner."""
        return (self._trials + 1) * self._settings.tuning.steps

    @property
    def trained_tokens(self) -> int:
        """Tokens of the steps done so far, see `Shots.tokens_per_step`."""
        ways = len(self._settings.configs)
        before = sum(self._tokens[run // ways] for run in range(self._run)) * self._settings.tuning.steps
        return before + self._tokens[self._fold] * self._tuner.steps_done

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self._run == self._trials and self._tuner.steps_done >= self._chosen[1]

    def step(self, turn: Turn = ALONE) -> float:
        """Do one step of the run in turn and return its loss.

        What an offer of the turn raises leaves the search unfit to go on: begin again from the last `state`.
        """
        in_trial = self._run < self._trials
        if in_trial and self._tuner.steps_done == 0:
            self._measure_untuned(turn)
        loss = self._tuner.step(turn)
        if in_trial and self._tuner.steps_done in self._settings.stops:
            self._measure(turn)
        if in_trial and self._tuner.steps_done == self._settings.tuning.steps:
            if self._run + 1 == self._trials:
                self._chosen = self._choose(turn)
            self._run += 1
            self._tuner = self._make_tuner()
        return loss

    def state(self) -> dict[str, Tensor]:
        """What `load_state` needs to go on as if unbroken."""
        tuner = {f"tuner/{name}": tensor for name, tensor in self._tuner.state().items()}
        return {"run": torch.tensor(self._run), "chosen": torch.tensor(self._chosen), **tuner, **self._measured}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`; raises ValueError, and changes nothing, if it is not one of this search's."""
        before = self._run, self._chosen, self._measured, self._tuner
        try:
            self._load(state)
        except (KeyError, ValueError) as error:
            self._run, self._chosen, self._measured, self._tuner = before
            raise ValueError("The state does not belong to this search.") from error

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self._measured = {name: tensor for name, tensor in state.items() if name.startswith("measured/")}
        self._run = int(state["run"])
        way, steps = (int(number) for number in state["chosen"])
        self._chosen = way, steps
        known = 0 <= self._run <= self._trials and 0 <= way < len(self._settings.configs)
        if not known or not self._names_before(self._run) <= set(self._measured):
            raise ValueError("unknown runs")
        self._tuner = self._make_tuner()
        self._tuner.load_state({name[6:]: tensor for name, tensor in state.items() if name.startswith("tuner/")})

    def result(self, turn: Turn = ALONE) -> Found:
        """What was found, once `finished`."""
        embedding = self._tuner.embedding
        kept = self._kept[-1]
        head = self._head.fit(turn) if self._settings.head else None
        bias = self._bias(self._prefix(), kept, turn)
        return Found(
            tokens=self._shots.context_of(kept).tokens,
            embedding=embedding.embedding.weight.detach(),
            delta=embedding.delta_embedding.weight.detach().clone(),
            epsilon=embedding.epsilon,
            classifier=Classifier(bias, self._mixture(turn), head),
            config=self._settings.configs[self._chosen[0]],
            steps=self._chosen[1],
            held_out=self._held_out(turn) if self._folds else None,
            harmful=self._harmful(turn),
        )

    # The runs.

    def _names_before(self, run: int) -> set[str]:
        """Names of what has been measured once so many runs are done."""
        ways = len(self._settings.configs)
        names = {f"measured/{fold}/icl" for fold in range(math.ceil(run / ways))}
        for fold, way in (divmod(done, ways) for done in range(run)):
            names |= {f"measured/{fold}/{way if stop else 0}/{stop}" for stop in self._settings.stops}
        return names

    @property
    def _fold(self) -> int:
        """Number of the fold that the run in turn holds out; the last run has the one after them."""
        return self._run // len(self._settings.configs)

    def _make_tuner(self) -> Tuner:
        way = self._run % len(self._settings.configs) if self._run < self._trials else self._chosen[0]
        kept = self._kept[self._fold]
        context = self._shots.context_of(kept)
        config = context.config(**self._settings.configs[way])
        training = self._shots.training_of(kept)
        return Tuner(self._model, context, training, config, self._settings.tuning, **self._bounds)

    # What is measured.

    def _measure_untuned(self, turn: Turn) -> None:
        """Score a fold before tuning, once for all ways: plain scores, and those that go on to be mixed."""
        if self._run % len(self._settings.configs) > 0:
            return
        prefix = self._prefix()
        scores = self._scores(prefix, self._folds[self._fold], turn)
        self._measured[f"measured/{self._fold}/icl"] = scores
        if 0 in self._settings.stops:
            bias = self._bias(prefix, self._kept[self._fold], turn)
            self._measured[f"measured/{self._fold}/0/0"] = label_part(scores, bias)

    def _measure(self, turn: Turn) -> None:
        way, stop, prefix = self._run % len(self._settings.configs), self._tuner.steps_done, self._prefix()
        scores = self._scores(prefix, self._folds[self._fold], turn)
        bias = self._bias(prefix, self._kept[self._fold], turn)
        self._measured[f"measured/{self._fold}/{way}/{stop}"] = label_part(scores, bias)

    def _prefix(self) -> PrefixKV:
        """The context as it is now."""
        return PrefixKV.compute(self._model, self._tuner.embedding.tuned())

    def _scores(
        self,
        prefix: PrefixKV,
        numbers: Sequence[int],
        turn: Turn,
        hidden: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """[n, L] label scores of examples."""
        queries = self._shots.queries_of(numbers)
        return score(self._model, prefix, self._shots.label_ids, queries, hidden=hidden, turn=turn)

    def _bias(self, prefix: PrefixKV, kept: Sequence[int], turn: Turn) -> Tensor:
        """[L] what a context of the examples `kept` says of any text: the mean over them, own copies hidden.

        Batch calibration (arXiv 2309.17249) with the examples as the batch, so that answers depend on nothing else.
        """
        if not self._settings.calibration:
            return torch.zeros(len(self._shots.labels))
        some = spread(kept, self._shots.truth, self._settings.most_for_bias)
        tokens = self._shots.context_of(kept).tokens
        places = {number: place for place, number in enumerate(kept)}
        hidden = []
        for number in some:
            marks = torch.zeros(len(tokens), dtype=torch.bool)
            if number < self._shots.context:
                first, end = tokens.span(places[number])
                marks[first:end] = True
            hidden.append(marks)
        return self._scores(prefix, some, turn, hidden).log_softmax(1).mean(0)

    # What follows from it.

    @property
    def _numbers(self) -> list[int]:
        """The held-out examples, fold after fold."""
        return [number for fold in self._folds for number in fold]

    @property
    def _places(self) -> list[list[int]]:
        """Each fold's places among the held-out examples."""
        places = iter(range(len(self._numbers)))
        return [[next(places) for _ in fold] for fold in self._folds]

    def _head_part(self, turn: Turn) -> Tensor:
        """[1, N, L] log-probabilities of heads that have not seen what they predict; [0, N, L] without a head."""
        if not self._settings.head:
            return torch.zeros(0, len(self._numbers), len(self._shots.labels), dtype=torch.float64)
        return self._head.held_out(turn)[None]

    def _label_parts(self, candidate: Candidate) -> Tensor:
        """[N, L] log-probabilities of the label scores after trials of one kind."""
        way, stop = candidate if candidate[1] else (0, 0)
        return torch.cat([self._measured[f"measured/{fold}/{way}/{stop}"] for fold in range(len(self._folds))])

    def _truth(self) -> Tensor:
        return torch.tensor([self._shots.truth[number] for number in self._numbers])

    def _choose(self, turn: Turn) -> Candidate:
        ways = range(len(self._settings.configs))
        all_of_them = [(way, stop) for way in ways for stop in self._settings.stops if stop or way == 0]
        parts = {candidate: self._label_parts(candidate) for candidate in all_of_them}
        settings = self._settings
        head = self._head_part(turn)
        return choose(parts, head, self._truth(), self._places, settings.usual, settings.calibration)

    def _parts(self, turn: Turn) -> Tensor:
        """[M, N, L] of what was chosen."""
        return torch.cat([self._label_parts(self._chosen)[None], self._head_part(turn)])

    def _mixture(self, turn: Turn) -> Mixture:
        usual = self._settings.usual
        if not self._folds:
            return usual_mixture(usual, len(self._shots.labels))
        return mixture_of(self._parts(turn), self._truth(), usual, self._settings.calibration)

    def _held_out(self, turn: Turn) -> HeldOut:
        plain = torch.cat([self._measured[f"measured/{fold}/icl"] for fold in range(len(self._folds))])
        settings, parts = self._settings, self._parts(turn)
        tuned = nested_probabilities(parts, self._truth(), self._places, settings.usual, settings.calibration)
        return HeldOut(tuple(map(tuple, self._folds)), plain.double().softmax(1), tuned)

    def _harmful(self, turn: Turn) -> tuple[tuple[int, float], ...]:
        if not self._folds or not self._settings.head:
            return ()
        return self._head.harmful(turn)


def held_out_folds(shots: Shots, settings: SearchSettings) -> list[list[int]]:
    """Numbers of the examples of each fold; none if there are too few to hold any out.

    Examples of a small context stay in it; those outside may be held out all the same.
    """
    if not settings.folds or settings.tuning.steps == 0:
        return []
    first = 0 if shots.context >= FEWEST else shots.context
    able = spread(range(first, len(shots)), shots.truth, settings.most_held_out)
    labels, in_context = [shots.truth[number] for number in able], [number < shots.context for number in able]
    folds = stratified_folds(labels, in_context, settings.tuning.seed)
    return [[able[place] for place in fold] for fold in folds]
