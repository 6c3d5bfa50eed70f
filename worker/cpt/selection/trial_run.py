"""One trial as it runs: prompt after prompt is tuned, and examples are read under each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.encoding.shots import Shots
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import read
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.folds import by_turns
from worker.cpt.selection.prompts import PromptPlan
from worker.cpt.selection.trials import HeldOutScores, PromptRecord, StepFigures, Trial, TunedPrompt, read_order
from worker.cpt.tuning.tuner import Tuner, TuningSettings
from worker.cpt.turn import Turn

#: Prompts of a trial without which it is dropped where there is no time for more.
FEWEST_PROMPTS: Final = 2


@dataclass(frozen=True)
class Task:
    """What all trials of a search share. `bounds` are those of a `Tuner`.

    config: the settings of a CPTConfig. calibration: queries of texts without a label. reads: whether examples are read
    under prompts that serve, and not only those that a prompt does not see. states: whether their states are kept.
    """

    model: Any
    shots: Shots
    tuning: TuningSettings
    config: Mapping[str, Any]
    calibration: tuple[tuple[int, ...], ...]
    reads: bool
    states: bool
    bounds: Mapping[str, Any]

    def batch(self, plan: PromptPlan) -> int:
        """Training examples of a step."""
        return min(self.tuning.batch_size or len(plan.training), len(plan.training))


@dataclass
class TrialRun:
    """Runs a trial of a task, step by step."""

    task: Task
    trial: Trial
    plans: Sequence[PromptPlan]
    records: list[PromptRecord] = field(default_factory=list)
    _tuner: Tuner | None = None
    _prefix: PrefixKV | None = None

    @property
    def complete(self) -> bool:
        """Whether all prompts are closed."""
        return len(self.records) == len(self.plans) and all(record.closed for record in self.records)

    @property
    def trained_tokens(self) -> int:
        """Tokens, of prompts and training examples, that the steps done so far have computed."""
        found, shots = 0, self.task.shots
        for plan, record in zip(self.plans, self.records, strict=False):
            inside = sum(len(shots.example(number)) for number in plan.context)
            trained = sum(len(shots.example(number)) for number in plan.training)
            found += len(record.losses) * (inside + round(trained * self.task.batch(plan) / len(plan.training)))
        return found

    def last_step(self) -> StepFigures | None:
        """The last step of tuning of the prompt in turn, if there was any in this process."""
        if self._tuner is None or not self.records or not self.records[-1].losses:
            return None
        return StepFigures(
            prompt=len(self.records) - 1,
            loss=self.records[-1].losses[-1],
            learning_rate=self._tuner.learning_rate,
            at_epsilon=self._tuner.embedding.at_epsilon(),
        )

    def held_out(self) -> HeldOutScores | None:
        """How the prompts predict the examples that they do not see; None where none were read."""
        truth, scores, labels = self.task.shots.truth, [], []
        for plan, record in zip(self.plans, self.records, strict=False):
            unseen = set(plan.unseen)
            places = [place for place, number in enumerate(record.numbers) if number in unseen]
            if places:
                scores.append(torch.cat(record.scores)[places])
                labels += [truth[record.numbers[place]] for place in places]
        if not labels:
            return None
        predicted, wanted = torch.cat(scores).double().log_softmax(1), torch.tensor(labels)
        return HeldOutScores(
            examples=len(labels),
            accuracy=(predicted.argmax(1) == wanted).double().mean().item(),
            nll=-predicted.gather(1, wanted[:, None]).mean().item(),
        )

    def step(self, costs: Costs, turn: Turn) -> tuple[float | None, float]:
        """Do the next piece of work; its loss, if it was a step of tuning, and what it cost."""
        record, plan, tuner = self._current()
        if len(record.losses) < self.trial.steps:
            record.losses.append(tuner.step(turn))
            record.delta = tuner.embedding.delta_embedding.weight.detach().clone()
            loss, cost = record.losses[-1], costs.step(len(plan.context), self.task.batch(plan))
        else:
            loss, cost = None, self._read(record, plan, tuner, costs, turn)
        if len(record.losses) == self.trial.steps and not self._names_left(record) + self._left_to_read(record, plan):
            record.closed = True
        return loss, cost

    def cut(self) -> None:
        """Read no more under the prompt in turn, if anything was."""
        record = self.records[-1]
        if record.numbers or not self._left_to_read(record, self.plans[len(self.records) - 1]):
            record.closed = True

    @property
    def between_prompts(self) -> bool:
        """Whether a prompt is closed and the next is not begun, with enough of them to serve."""
        return len(self.records) >= FEWEST_PROMPTS and self.records[-1].closed

    def shorten(self, fewest: int) -> None:
        """End with the prompts that are closed, if they are so many at least."""
        closed = [record for record in self.records if record.closed]
        if fewest <= len(closed) < len(self.plans):
            self.records, self.plans = closed, self.plans[: len(closed)]
            self.trial = replace(self.trial, prompts=len(closed))

    def end(self) -> int:
        """Let all prompts have as many examples read under them, and return how many."""
        counts = [len(record.numbers) for record in self.records]
        if self.task.reads:
            for record in self.records:
                record.keep(min(counts))
        return min(counts)

    def prompts(self) -> tuple[TunedPrompt, ...]:
        """The prompts that serve, as they were tuned."""
        found = []
        for plan, record in zip(self.plans, self.records, strict=True):
            if plan.served:
                embedding = self._make_tuner(plan).embedding
                weight, tokens = embedding.embedding.weight.detach(), self.task.shots.context_of(plan.context).tokens
                found.append(TunedPrompt(tokens, weight, record.delta, embedding.epsilon))
        return tuple(found)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Its state, under names that begin with `name`."""
        found: dict[str, Tensor] = {}
        for prompt, record in enumerate(self.records):
            found |= record.tensors(f"{name}.{prompt}")
        if self._tuner is not None:
            found |= {f"tuner.{part}": tensor for part, tensor in self._tuner.state().items()}
        return found

    def load(self, name: str, stored: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`; raises KeyError or ValueError for those of another trial."""
        prompts = {key.split(".")[-2] for key in stored if key.startswith(f"{name}.")}
        self.records = [PromptRecord.from_tensors(f"{name}.{prompt}", stored) for prompt in range(len(prompts))]
        if len(self.records) > len(self.plans):
            raise ValueError("unknown prompts")
        if self.records and not self.records[-1].closed:
            self._tuner = self._make_tuner(self.plans[len(self.records) - 1])
            self._tuner.load_state({key[6:]: value for key, value in stored.items() if key.startswith("tuner.")})

    def _current(self) -> tuple[PromptRecord, PromptPlan, Tuner]:
        """What is worked on: the last record, or a new one where that is closed."""
        if not self.records or self.records[-1].closed:
            self._tuner, self._prefix = self._make_tuner(self.plans[len(self.records)]), None
            self.records.append(PromptRecord(self._tuner.embedding.delta_embedding.weight.detach().clone()))
        assert self._tuner is not None  # noqa: S101 - made with its record
        return self.records[-1], self.plans[len(self.records) - 1], self._tuner

    def _make_tuner(self, plan: PromptPlan) -> Tuner:
        task = self.task
        context = task.shots.context_of(plan.context)
        training = task.shots.training_of(plan.training, plan.context)
        tuning = replace(task.tuning, steps=self.trial.steps)
        config, unlearned = context.config(**task.config), plan.unlearned_places
        return Tuner(task.model, context, training, config, tuning, **task.bounds, held_out=unlearned)

    def _left_to_read(self, record: PromptRecord, plan: PromptPlan) -> list[int]:
        """Examples to read; -1 stands for each text without a label, which come last."""
        task = self.task
        truth = task.shots.truth
        unseen = by_turns(plan.unseen, truth)
        out = set(unseen)
        others = range(len(task.shots)) if task.reads and plan.served else ()
        seen = by_turns([number for number in others if number not in out], truth)
        examples = read_order(unseen, seen)[: self.trial.examples]
        texts = len(task.calibration) if task.reads else 0
        return examples[len(record.numbers) :] + [-1] * (texts - sum(map(len, record.calibration)))

    def _names_left(self, record: PromptRecord) -> list[int]:
        """Labels whose names are to be read: a head on states learns from them as from examples."""
        shots = self.task.shots
        return (
            list(range(sum(part.shape[1] for part in record.names), len(shots.label_texts))) if self.task.states else []
        )

    def _read(self, record: PromptRecord, plan: PromptPlan, tuner: Tuner, costs: Costs, turn: Turn) -> float:
        """Read the next texts under the prompt as it is now; what it cost."""
        task, left, names = self.task, self._left_to_read(record, plan), self._names_left(record)[: costs.texts_at_once]
        inside = 0 if self._prefix else len(plan.context)
        prefix = self._prefix = self._prefix or PrefixKV.compute(task.model, tuner.embedding.tuned())
        if names:
            queries = task.shots.names_of(names)
            record.names.append(
                read(task.model, prefix, [LabelTrie.empty()] * len(names), queries, views=VIEWS, turn=turn).states
            )
            return costs.reading(inside, 0) + costs.naming(len(names))
        trie = LabelTrie.build(task.shots.label_ids)
        some = [number for number in left[: costs.texts_at_once] if number >= 0]
        if some:
            views, hidden = VIEWS if task.states else (), self._own_copies(plan, some, prefix.tokens)
            queries = task.shots.queries_of(some)
            found = read(task.model, prefix, [trie] * len(some), queries, views=views, hidden=hidden, turn=turn)
            record.numbers += some
            record.scores.append(found.scores)
            record.states.append(found.states)
            return costs.reading(inside, len(some))
        done = sum(map(len, record.calibration))
        texts = task.calibration[done : done + costs.texts_at_once]
        record.calibration.append(read(task.model, prefix, [trie] * len(texts), texts, views=(), turn=turn).scores)
        return costs.reading(inside, len(texts))

    def _own_copies(self, plan: PromptPlan, numbers: Sequence[int], tokens: int) -> list[Tensor]:
        """For each example the tokens [T] bool of its own copy in the prompt."""
        context = self.task.shots.context_of(plan.context).tokens
        hidden = []
        for number in numbers:
            marks = torch.zeros(tokens, dtype=torch.bool)
            if number in plan.context:
                first, end = context.span(plan.context.index(number))
                marks[first:end] = True
            hidden.append(marks)
        return hidden
