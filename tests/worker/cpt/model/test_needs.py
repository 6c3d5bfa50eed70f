"""What a model is said to need, against what is counted."""

from typing import Any

import torch

from worker.cpt.model import base_model
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.model.memory import GraphMeter
from worker.cpt.model.needs import Needs
from worker.cpt.model.packing import Packing
from worker.cpt.model.sizes import token_bytes
from worker.cpt.scoring.prefix import PrefixKV

TOKENS = 60


def test_graph_of_a_token_is_no_larger_than_said_and_not_much_smaller(any_model: Any) -> None:
    base_model.prepare(any_model)
    embeds = torch.randn(TOKENS, any_model.config.hidden_size).requires_grad_()
    meter = GraphMeter(any_model)
    with meter.metering():
        base_model.run(any_model, embeds, Packing.causal([TOKENS], 0, any_model.device))
    share = meter.nbytes / TOKENS / token_bytes(any_model.config, torch.float32)
    assert 0.4 < share <= 1.1


def test_context_takes_the_memory_of_its_keys_and_values(llama: Any) -> None:
    prefix = PrefixKV.compute(llama, word_embeddings(llama, range(TOKENS)))
    short, long = (Needs.of(llama.config, 1000, torch.float32, tokens) for tokens in (TOKENS, 2 * TOKENS))
    assert long.serve - short.serve == prefix.nbytes
    assert long.tune - short.tune == 3 * prefix.nbytes
    assert short.weights == 4000 < short.serve
