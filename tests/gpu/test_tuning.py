"""Tuning on the device: the reference's loss, gradient and steps, and going on after a kill."""

import copy
from typing import Any

import pytest
import torch

from tests.worker.cpt.oracle import CapturedStep, Oracle, gradients, relative
from tests.worker.cpt.tasks import Task, random_task
from worker.cpt.tuning.tuner import Tuner, TuningSettings

# PEFT reads an attribute that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

STEPS = 20
RATE = 0.02


@pytest.fixture
def task() -> Task:
    """Four examples, all in the context, and a fifth that is only trained on."""
    return random_task()


@pytest.mark.parametrize("loss_type", ["none", "decay"])
def test_loss_and_gradient_are_those_of_peft(model: Any, task: Task, loss_type: str) -> None:
    config = task.config(opt_weighted_loss_type=loss_type)
    oracle = Oracle.of(copy.deepcopy(model), config)
    tuner = Tuner(model, task.context, task.training, config, TuningSettings())
    loss, gradient, _ = gradients(tuner, oracle, task.training)
    assert loss < 1e-4
    assert gradient < 1e-4


def test_delta_after_training_is_that_of_peft(model: Any, task: Task) -> None:
    config = task.config()
    oracle = Oracle.of(copy.deepcopy(model), config)
    tuner = Tuner(model, task.context, task.training, config, TuningSettings(learning_rate=RATE), chunk_tokens=20)
    optimizer = torch.optim.AdamW([oracle.delta], lr=RATE)
    for _ in range(STEPS):
        theirs = oracle.loss(task.training)
        optimizer.zero_grad()
        theirs.backward()
        optimizer.step()
        assert tuner.step() == pytest.approx(theirs.item(), rel=1e-4)
    assert relative(tuner.state()["delta"], oracle.projected()) < 1e-3


def test_bfloat16_is_as_close_to_float32_as_the_reference_is(model: Any, task: Task) -> None:
    """Both round each result to 8 bits, in another order: neither is the truth, which is the gradient in float32."""
    config = task.config()
    exact = CapturedStep(Tuner(copy.deepcopy(model), task.context, task.training, config, TuningSettings()))
    rough = copy.deepcopy(model).to(torch.bfloat16)
    oracle = Oracle.of(copy.deepcopy(rough), config)
    ours = CapturedStep(Tuner(rough, task.context, task.training, config, TuningSettings()))
    theirs = oracle.loss(task.training)
    (gradient,) = torch.autograd.grad(theirs, oracle.delta)
    assert abs(ours.loss / exact.loss - 1) < 0.02
    apart = relative(gradient.float(), exact.gradient)
    assert relative(ours.gradient.float(), exact.gradient) < 1.5 * apart + 0.01


def test_tuning_that_was_broken_off_ends_as_if_unbroken(model: Any, task: Task) -> None:
    config, settings = task.config(), TuningSettings(learning_rate=RATE, batch_size=2, token_dropout=0.1)
    unbroken = Tuner(model, task.context, task.training, config, settings)
    losses = [unbroken.step() for _ in range(6)]
    first = Tuner(model, task.context, task.training, config, settings)
    for _ in range(3):
        first.step()
    second = Tuner(model, task.context, task.training, config, settings)
    second.load_state({name: tensor.cpu() for name, tensor in first.state().items()})
    assert [second.step() for _ in range(3)] == pytest.approx(losses[3:], rel=1e-5)
    assert relative(second.state()["delta"], unbroken.state()["delta"]) < 1e-5
