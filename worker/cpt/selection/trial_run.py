"""One trial as it runs: prompt after prompt is tuned, and examples are read under each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from worker.cpt.selection.costs import Costs
from worker.cpt.selection.prompts import PromptPlan
from worker.cpt.selection.reader import Reader
from worker.cpt.selection.task import Task
from worker.cpt.selection.trials import HeldOutScores, PromptRecord, StepFigures, Trial, TunedPrompt
from worker.cpt.tuning.tuner import Tuner
from worker.cpt.turn import Turn

#: Prompts of a trial without which it is dropped where there is no time for more.
FEWEST_PROMPTS: Final = 2


@dataclass
class TrialRun:
    """Runs a trial of a task, step by step."""

    task: Task
    trial: Trial
    plans: Sequence[PromptPlan]
    records: list[PromptRecord] = field(default_factory=list)
    _tuner: Tuner | None = None
    _reader: Reader | None = None

    def __post_init__(self) -> None:
        self._let_serve(self.plans)

    def _let_serve(self, plans: Sequence[PromptPlan]) -> None:
        """Go on with these prompts alone; a single one that is not tuned holds out what does not stand in it."""
        self.plans = [replace(plan, alone=len(plans) == 1 and not self.trial.steps) for plan in plans]

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
            if places := plan.held_out(record.numbers[: record.scored]):
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
            inside = costs.worth(tuner.embedding.tokens)
            loss, cost = record.losses[-1], costs.step(inside, self.task.batch(plan))
        else:
            loss, cost = None, self._reader_of(plan, record).step(tuner.embedding, costs, turn)
        if len(record.losses) == self.trial.steps and self._reader_of(plan, record).finished:
            record.closed = True
        return loss, cost

    def cut(self) -> None:
        """Read no more examples under the prompt in turn, if some were: half of those of the prompts before at least.

        All prompts then have as many, and with fewer a prompt less is better.
        """
        record, plan = self.records[-1], self.plans[len(self.records) - 1]
        least = min((len(each.numbers) for each in self.records[:-1]), default=0)
        if self._reader_of(plan, record).may_end and 2 * len(record.numbers) >= least:
            record.closed = True

    @property
    def first_steps(self) -> int:
        """Steps of tuning of the first prompt that are done."""
        return len(self.records[0].losses) if self.records else 0

    @property
    def between_prompts(self) -> bool:
        """Whether a prompt is closed and the next is not begun, with enough of them to serve."""
        return len(self.records) >= FEWEST_PROMPTS and self.records[-1].closed

    def shorten(self, fewest: int) -> None:
        """End with the prompts that are closed, if they are so many at least."""
        closed = [record for record in self.records if record.closed]
        if fewest <= len(closed) < len(self.plans):
            self.records = closed
            self._let_serve(self.plans[: len(closed)])
            self.trial = replace(self.trial, prompts=len(closed))

    def end(self) -> None:
        """Let all prompts that serve have as many examples read under them."""
        serving = [record for plan, record in zip(self.plans, self.records, strict=True) if plan.served]
        if self.task.reads:
            for record in serving:
                record.keep(min(len(each.numbers) for each in serving))

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
        device = self.task.model.get_input_embeddings().weight.device
        for record in self.records:
            record.delta = record.delta.to(device)  # all else of a record is kept on the host
        if len(self.records) > len(self.plans):
            raise ValueError("unknown prompts")
        for plan, record in zip(self.plans, self.records, strict=False):
            tokens = len(self.task.shots.context_of(plan.context).tokens.ids)
            examples = self._make_reader(plan, record).examples
            if len(record.delta) != tokens or record.numbers != examples[: len(record.numbers)]:
                raise ValueError("prompts of other examples")
        if self.records and not self.records[-1].closed:
            self._tuner = self._make_tuner(self.plans[len(self.records) - 1])
            self._tuner.load_state({key[6:]: value for key, value in stored.items() if key.startswith("tuner.")})

    def _current(self) -> tuple[PromptRecord, PromptPlan, Tuner]:
        """What is worked on: the last record, or a new one where that is closed."""
        if not self.records or self.records[-1].closed:
            self._tuner = self._make_tuner(self.plans[len(self.records)])
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

    def _make_reader(self, plan: PromptPlan, record: PromptRecord) -> Reader:
        seed = self.task.tuning.seed + self.plans.index(plan)
        return Reader(self.task, plan, record, self.trial.examples, self.trial.scored(self.task.states), seed)

    def _reader_of(self, plan: PromptPlan, record: PromptRecord) -> Reader:
        """The reader of a prompt; that of the prompt in turn keeps what it has computed of the prompt."""
        if self._reader is None or self._reader.record is not record:
            self._reader = self._make_reader(plan, record)
        return self._reader
