from typing import Any

import torch

from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV


def test_prefix_has_keys_and_values_of_every_layer(llama: Any) -> None:
    prefix = PrefixKV.compute(llama, word_embeddings(llama, [5, 6, 7, 8]))
    assert len(prefix.layers) == 3
    assert all(tensor.shape == (2, 4, 8) for pair in prefix.layers for tensor in pair)
    assert prefix.tokens == 4
    assert prefix.nbytes == 3 * 2 * 2 * 4 * 8 * 4


def test_prepared_model_answers_as_before(model: Any) -> None:
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    padding = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    with torch.no_grad():
        before = model(ids, attention_mask=padding).logits[padding.bool()]
        PrefixKV.compute(model, word_embeddings(model, [5, 6, 7, 8]))
        after = model(ids, attention_mask=padding).logits[padding.bool()]
    torch.testing.assert_close(before, after)
