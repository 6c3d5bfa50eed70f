import math
from typing import Any

import pytest
import torch

from worker.cpt.encoding.template import TokenType
from worker.cpt.tuning.config import CPTConfig
from worker.cpt.tuning.embedding import CPTEmbedding
from worker.cpt.tuning.projection import epsilon, project, reference_unit
from worker.cpt.tuning.tuner import Tuner, TuningSettings


def test_starts_from_the_word_embeddings_of_its_ids(llama: Any) -> None:
    config = CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=[4, 4, 9], cpt_tokens_type_mask=[1, 2, 3])
    embedding = CPTEmbedding(config, llama.get_input_embeddings())
    expected = llama.get_input_embeddings().weight[[4, 4, 9]]
    assert torch.equal(embedding(torch.arange(3)), expected)
    assert torch.equal(CPTEmbedding(config, llama.get_input_embeddings().weight).embedding.weight, expected)
    assert torch.equal(embedding.delta_embedding.weight, torch.zeros(3, 32))


def test_starts_from_the_first_word_without_ids(llama: Any) -> None:
    embedding = CPTEmbedding(CPTConfig(task_type="CAUSAL_LM"), llama.get_input_embeddings())
    assert torch.equal(embedding(torch.tensor([0])), llama.get_input_embeddings().weight[:1])


def test_epsilon_depends_on_type_and_hidden_size() -> None:
    types = {"cpt_token_ids": [1] * 6, "cpt_tokens_type_mask": [0, 1, 2, 3, 4, 6]}
    config = CPTConfig("CAUSAL_LM", opt_projection_epsilon=0.3, opt_projection_format_epsilon=0.2, **types)  # type: ignore[arg-type]
    scale = math.sqrt(512 / 2048)
    expected = torch.tensor([0.0, 0.2 * scale, 0.3 * scale, 0.2 * scale, 0.0, 0.3 * scale])
    torch.testing.assert_close(epsilon(config, reference_unit(512)), expected, rtol=1e-6, atol=1e-9)


def test_projection_shortens_long_rows_only() -> None:
    delta = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    projected = project(delta, torch.tensor([1.0, 1.0, 1.0]))
    torch.testing.assert_close(projected, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_projecting_again_changes_no_bit() -> None:
    radius = torch.rand(200)
    once = project(torch.randn(200, 576), radius)
    assert torch.equal(project(once, radius), once)


def test_forward_steps_back_into_the_ball(llama: Any, task: Any) -> None:
    embedding = CPTEmbedding(task.config(), llama.get_input_embeddings())
    torch.nn.init.normal_(embedding.delta_embedding.weight, std=5.0)
    tuned = embedding.tuned()
    places = torch.arange(len(task.context))
    assert torch.equal(embedding(places), tuned)
    norms = embedding.delta_embedding.weight.norm(dim=1)
    torch.testing.assert_close(norms, embedding.epsilon, rtol=1e-5, atol=1e-9)


@pytest.fixture
def tuned(model: Any, task: Any) -> CPTEmbedding:
    tuner = Tuner(model, task.context, task.training, task.config(), TuningSettings(learning_rate=0.3))
    for _ in range(5):
        tuner.step()
    return tuner.embedding


def test_deltas_stay_in_their_balls(tuned: CPTEmbedding) -> None:
    norms = tuned.delta_embedding.weight.norm(dim=1)
    assert bool((norms <= tuned.epsilon).all())
    assert bool((norms > 0.99 * tuned.epsilon).any()), "the learning rate was too small to reach a ball"


def test_delta_is_zero_exactly_where_labels_and_separators_are(tuned: CPTEmbedding, task: Any) -> None:
    still = [kind in {TokenType.LABEL, TokenType.SEPARATOR} for kind in task.context.tokens.types]
    assert (tuned.delta_embedding.weight == 0).all(dim=1).tolist() == still


def test_training_leaves_the_base_embedding_as_it_was(model: Any, task: Any) -> None:
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    tuner = Tuner(model, task.context, task.training, task.config(), TuningSettings(learning_rate=0.3))
    before = tuner.embedding.embedding.weight.clone()
    for _ in range(3):
        tuner.step()
    assert torch.equal(tuner.embedding.embedding.weight, before)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
