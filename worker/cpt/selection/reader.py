"""Reading under one prompt of a trial, piece by piece: the labels' names, then texts without a label, then examples.

Examples come last, since of them as many as there is time for will do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import read
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS
from worker.cpt.selection.choice import FEW_LABELS
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.folds import in_proportion
from worker.cpt.selection.prompts import PromptPlan
from worker.cpt.selection.task import Task
from worker.cpt.selection.trials import PromptRecord, read_order
from worker.cpt.tuning.embedding import CPTEmbedding
from worker.cpt.turn import Turn


@dataclass
class Reader:
    """Reads into the record of a prompt that `plan` describes.

    most: examples that are read at most. scored: of them the first, whose labels are scored; of the others the states
    alone are read, which costs a fraction where labels are many. seed: of the order of many labels, of which not all
    may be scored: those in the prompt are predicted better than others, and often stand together.
    """

    task: Task
    plan: PromptPlan
    record: PromptRecord
    most: int
    scored: int
    seed: int
    _prefix: PrefixKV | None = None

    @property
    def finished(self) -> bool:
        """Whether everything is read."""
        return self._others_finished and not self._examples_left()

    @property
    def may_end(self) -> bool:
        """Whether all but examples is read, and some examples if there are any."""
        return self._others_finished and (bool(self.record.numbers) or not self._examples_left())

    @property
    def _others_finished(self) -> bool:
        return not self._names_left() and not self._unlabelled_left()

    def step(self, embedding: CPTEmbedding, costs: Costs, turn: Turn) -> float:
        """Read the next texts under the prompt as it is now, and return what it cost."""
        inside = 0.0 if self._prefix else costs.worth(embedding.tokens)
        prefix = self._prefix = self._prefix or PrefixKV.compute(self.task.model, embedding.tuned())
        if names := self._names_left()[: costs.names_at_once]:
            self._read_names(names, prefix, turn)
            return costs.reading(inside, 0) + costs.naming(len(names))
        if queries := self._unlabelled_left()[: costs.texts_at_once]:
            self._read_unlabelled(queries, prefix, turn)
            return costs.reading(inside, len(queries))
        if numbers := self._to_score()[: costs.texts_at_once]:
            self._read_examples(numbers, self._tries(len(numbers)), prefix, turn)
            return costs.reading(inside, len(numbers))
        numbers = self._examples_left()[: costs.states_at_once]
        if numbers:
            self._read_examples(numbers, [LabelTrie.empty()] * len(numbers), prefix, turn)
        return costs.reading(inside, 0, len(numbers))

    def _names_left(self) -> range:
        """Labels whose names are to be read: a head on states learns from them as from examples."""
        done = sum(part.shape[1] for part in self.record.names)
        return range(done, len(self.task.shots.label_texts) if self.task.states else done)

    def _examples_left(self) -> Sequence[int]:
        return self.examples[len(self.record.numbers) :]

    def _to_score(self) -> Sequence[int]:
        return self.examples[self.record.scored : self.scored]

    @cached_property
    def examples(self) -> Sequence[int]:
        """The examples that are to be read, in their order."""
        task, truth = self.task, self.task.shots.truth
        others = set(range(len(task.shots)) if task.reads and self.plan.served else ()) - set(self.plan.unseen)
        kinds = [in_proportion(some, truth, self._label_order) for some in (self.plan.unseen, sorted(others))]
        return read_order(*kinds)[: self.most]

    @property
    def _label_order(self) -> Sequence[int] | None:
        labels = len(self.task.shots.labels)
        if labels <= FEW_LABELS:
            return None
        order: list[int] = torch.randperm(labels, generator=torch.Generator().manual_seed(self.seed % 2**63)).tolist()
        return order

    def _unlabelled_left(self) -> Sequence[tuple[int, ...]]:
        wanted = self.task.calibration if self.task.reads and self.scored else ()
        return wanted[sum(map(len, self.record.calibration)) :]

    def _read_names(self, labels: Sequence[int], prefix: PrefixKV, turn: Turn) -> None:
        queries, nothing = self.task.shots.names_of(labels), LabelTrie.empty()
        found = read(self.task.model, prefix, [nothing] * len(labels), queries, views=VIEWS, turn=turn)
        self.record.names.append(found.states)

    def _read_examples(self, numbers: Sequence[int], tries: Sequence[LabelTrie], prefix: PrefixKV, turn: Turn) -> None:
        views, hidden = VIEWS if self.task.states else (), self._own_copies(numbers, prefix.tokens)
        queries = self.task.shots.queries_of(numbers)
        found = read(self.task.model, prefix, tries, queries, views=views, hidden=hidden, turn=turn)
        self.record.numbers += numbers
        if found.scores.shape[1]:
            self.record.scores.append(found.scores)
        self.record.states.append(found.states)

    def _read_unlabelled(self, queries: Sequence[Sequence[int]], prefix: PrefixKV, turn: Turn) -> None:
        found = read(self.task.model, prefix, self._tries(len(queries)), queries, views=(), turn=turn)
        self.record.calibration.append(found.scores)

    def _tries(self, count: int) -> list[LabelTrie]:
        return [LabelTrie.build(self.task.shots.label_ids)] * count

    def _own_copies(self, numbers: Sequence[int], tokens: int) -> list[Tensor]:
        """For each example the tokens [T] bool of its own copy in the prompt."""
        context = self.task.shots.context_of(self.plan.context).tokens
        hidden = []
        for number in numbers:
            marks = torch.zeros(tokens, dtype=torch.bool)
            if number in self.plan.context:
                first, end = context.span(self.plan.context.index(number))
                marks[first:end] = True
            hidden.append(marks)
        return hidden
