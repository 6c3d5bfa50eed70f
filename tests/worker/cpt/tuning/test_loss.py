from dataclasses import replace
from typing import Any

import pytest
import torch

from worker.cpt.encoding.context import Tokens
from worker.cpt.encoding.template import TokenType
from worker.cpt.tuning.loss import LabelTokens, context_labels, training_labels, weighted_cross_entropy


def test_weights_decay_by_label_from_the_last_example(task: Any) -> None:
    labels = context_labels(task.context.tokens, task.config(opt_loss_decay_factor=0.5))
    assert labels.weights == (0.0625, 0.125, 0.125, 0.25, 0.5, 0.5)  # examples have 1, 2, 1 and 2 label tokens


def test_weights_are_one_without_decay(task: Any) -> None:
    assert set(context_labels(task.context.tokens, task.config(opt_weighted_loss_type="none")).weights) == {1.0}


def test_labels_that_are_held_out_are_in_no_loss(task: Any) -> None:
    labels = context_labels(task.context.tokens, task.config(opt_loss_decay_factor=0.5), held_out=[1, 3])
    assert labels.weights == (0.0625, 0.25)


def test_labels_are_read_one_place_before(task: Any) -> None:
    tokens = task.training[1]
    labels = training_labels(tokens)
    assert labels.ids == tokens.ids[-2:]
    assert labels.read_at == (len(tokens) - 3, len(tokens) - 2)


def test_stretches_of_a_context_hold_every_label_once(task: Any) -> None:
    labels = context_labels(task.context.tokens, task.config())
    parts = [labels.between(start, start + 7).shifted(start) for start in range(0, len(task.context), 7)]
    assert sum(parts[1:], parts[0]) == labels


def test_loss_is_the_weighted_sum_of_negative_log_probabilities() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    loss = weighted_cross_entropy(logits, LabelTokens((0, 1), (2, 0), (1.0, 0.5)))
    log_p = logits.log_softmax(-1)
    torch.testing.assert_close(loss, -(log_p[0, 2] + 0.5 * log_p[1, 0]))


def test_training_example_needs_one_label_after_something(task: Any) -> None:
    label = Tokens((5,), (TokenType.LABEL,), (0,))
    unlabelled = replace(task.training[0], types=(TokenType.INPUT,) * len(task.training[0]))
    for tokens in (label, unlabelled, task.context.tokens):
        with pytest.raises(ValueError, match="one label"):
            training_labels(tokens)
