"""Loss, gradient and training are those of PEFT's CPT, which serves as the oracle here and nowhere else."""

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.worker.cpt.oracle import CapturedStep, Oracle, gradients, relative
from worker.cpt.encoding.context import Context, encode_example
from worker.cpt.encoding.template import Template, TokenType
from worker.cpt.tuning.config import CPTConfig
from worker.cpt.tuning.embedding import CPTEmbedding
from worker.cpt.tuning.tuner import Tuner, TuningSettings, batch_order

# PEFT reads an attribute that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

STEPS = 20
RATE = 0.02


@pytest.mark.parametrize("loss_type", ["none", "decay"])
def test_loss_and_gradient_are_those_of_peft(any_model: Any, task: Any, loss_type: str) -> None:
    config = task.config(opt_weighted_loss_type=loss_type)
    oracle = Oracle.of(copy.deepcopy(any_model), config)
    tuner = Tuner(any_model, task.context, task.training, config, TuningSettings())
    loss, gradient, norm = gradients(tuner, oracle, task.training)
    assert loss < 1e-5
    assert gradient < 1e-4
    assert norm > 1e-3


@pytest.mark.parametrize("batch_size", [None, 2])
def test_delta_after_training_is_that_of_peft(model: Any, task: Any, batch_size: int | None) -> None:
    config = task.config()
    oracle = Oracle.of(copy.deepcopy(model), config)
    settings = TuningSettings(learning_rate=RATE, batch_size=batch_size, seed=3)
    tuner = Tuner(model, task.context, task.training, config, settings, chunk_tokens=20, memory=0)
    optimizer = torch.optim.AdamW([oracle.delta], lr=RATE)
    for step in range(STEPS):
        batch = [task.training[number] for number in batch_order(len(task.training), batch_size, 3, step)]
        theirs = oracle.loss(batch)
        optimizer.zero_grad()
        theirs.backward()
        optimizer.step()
        assert tuner.step() == pytest.approx(theirs.item(), rel=1e-4)
    ours = tuner.state()["delta"]
    assert relative(ours, oracle.projected()) < 1e-3
    assert float((ours.norm(dim=1) - tuner.embedding.epsilon).abs().min()) < 1e-6, "no ball was reached"


def test_default_model_trains_like_peft(smollm2: Any, smollm2_folder: Path, tokenizer: Any) -> None:
    examples = [("great film", "positive"), ("a total bore from start to end", "very negative")]
    context = Context.build(tokenizer, Template(), examples)
    training = [encode_example(tokenizer, Template(), *example) for example in examples]
    config = context.config(opt_weighted_loss_type="decay", opt_loss_decay_factor=0.95)
    oracle = Oracle.of(AutoModelForCausalLM.from_pretrained(smollm2_folder), config)
    tuner = Tuner(smollm2, context, training, config, TuningSettings(learning_rate=1e-3))
    optimizer = torch.optim.AdamW([oracle.delta], lr=1e-3)
    for _ in range(STEPS):
        theirs = oracle.loss(training)
        optimizer.zero_grad()
        theirs.backward()
        ours = CapturedStep(tuner)
        assert ours.loss == pytest.approx(theirs.item(), rel=1e-5)
        assert oracle.delta.grad is not None
        assert relative(ours.gradient, oracle.delta.grad) < 1e-4
        optimizer.step()
    assert relative(tuner.state()["delta"], oracle.projected()) < 1e-3


def test_config_has_the_fields_and_defaults_of_peft() -> None:
    ours, theirs = CPTConfig(task_type="CAUSAL_LM"), peft.CPTConfig(task_type="CAUSAL_LM")
    for name, value in vars(ours).items():
        assert getattr(theirs, name) == value, name


def test_weights_are_the_same_as_peft_initialises(llama: Any, task: Any) -> None:
    config = task.config()
    ours = CPTEmbedding(config, llama.get_input_embeddings())
    theirs = Oracle.of(copy.deepcopy(llama), config).model.prompt_encoder["default"]
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours.embedding.weight, theirs.embedding.weight)
    assert torch.allclose(ours.epsilon, theirs.get_epsilon())


def test_types_and_peft_agree_on_which_tokens_are_labels(task: Any) -> None:
    types = torch.tensor(task.context.tokens.reference_types())
    labels = (types > 0) & (types % 4 == 0)
    assert labels.tolist() == [kind == TokenType.LABEL for kind in task.context.tokens.types]
