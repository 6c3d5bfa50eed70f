"""Loss, gradient and training are those of PEFT's CPT, which serves as the oracle here and nowhere else."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import peft
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from worker.cpt.encoding.context import Context, Tokens, encode_example
from worker.cpt.encoding.template import Template, TokenType
from worker.cpt.tuning.config import CPTConfig
from worker.cpt.tuning.embedding import CPTEmbedding
from worker.cpt.tuning.tuner import Tuner, TuningSettings, batch_order

# PEFT reads an attribute that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

STEPS = 20
RATE = 0.02


class Oracle(NamedTuple):
    model: Any
    delta: Tensor

    @classmethod
    def of(cls, model: Any, config: CPTConfig) -> "Oracle":
        settings = peft.CPTConfig(
            task_type="CAUSAL_LM",
            cpt_token_ids=config.cpt_token_ids,
            cpt_mask=config.cpt_mask,
            cpt_tokens_type_mask=config.cpt_tokens_type_mask,
            opt_weighted_loss_type=config.opt_weighted_loss_type,
            opt_loss_decay_factor=config.opt_loss_decay_factor,
            opt_projection_epsilon=config.opt_projection_epsilon,
            opt_projection_format_epsilon=config.opt_projection_format_epsilon,
        )
        tuned = peft.get_peft_model(model, settings).eval()
        return cls(tuned, next(weight for weight in tuned.parameters() if weight.requires_grad))

    def loss(self, batch: Sequence[Tokens]) -> Tensor:
        length = max(map(len, batch))
        ids = torch.tensor([list(tokens.ids) + [0] * (length - len(tokens)) for tokens in batch])
        types = torch.tensor([tokens.reference_types() + [0] * (length - len(tokens)) for tokens in batch])
        mask = torch.tensor([[1] * len(tokens) + [0] * (length - len(tokens)) for tokens in batch])
        # The reference writes into the types it is given.
        output = self.model(input_ids=ids, attention_mask=mask, labels=ids.clone(), input_type_mask=types.clone())
        loss: Tensor = output.loss
        return loss

    def projected(self) -> Tensor:
        projected: Tensor = self.model.prompt_encoder["default"].get_projection()
        return projected


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def gradients(tuner: Tuner, oracle: Oracle, batch: Sequence[Tokens]) -> tuple[float, float, float]:
    """Relative differences of loss and gradient, and the gradient's norm."""
    ours = CapturedStep(tuner)
    theirs = oracle.loss(batch)
    (gradient,) = torch.autograd.grad(theirs, oracle.delta)
    return abs(ours.loss / theirs.item() - 1), relative(ours.gradient, gradient), float(gradient.norm())


class CapturedStep:
    """Loss and gradient of a tuner's next step."""

    def __init__(self, tuner: Tuner) -> None:
        self.loss = tuner.step()
        gradient = tuner.embedding.delta_embedding.weight.grad
        assert gradient is not None
        self.gradient = gradient


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
