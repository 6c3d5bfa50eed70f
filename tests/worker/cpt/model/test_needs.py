"""What a model is said to need, against what is counted."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.gpu.shapes import labels_of, queries_of, task_of
from tests.worker.cpt.model.live import peak_bytes
from worker.cpt.model import base_model
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.model.memory import GraphMeter
from worker.cpt.model.needs import Needs
from worker.cpt.model.packing import Packing
from worker.cpt.model.sizes import ON_CPU, Sizes, token_bytes
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import read
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.tuning.tuner import Tuner, TuningSettings

TOKENS = 60
#: Bytes of a logit, as the planner counts them.
LOGIT_BYTES = 12


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


#: Scores of attention in blocks on a CPU, where products beat the flash kernels, whatever the model: in float32, in the
#: model's dtype, and their gradients.
BLOCKS = 8 * 2**20
LAID_OUT = ON_CPU.pass_logits * LOGIT_BYTES


@pytest.mark.parametrize(
    ("examples", "labels", "vocabulary", "dtype"),
    [(20, 77, 997, torch.float32), (40, 2, 997, torch.bfloat16), (30, 2, 24576, torch.float32)],
)
def test_needs_are_those_of_the_tensors_that_live_at_once(
    examples: int, labels: int, vocabulary: int, dtype: torch.dtype
) -> None:
    """Contexts of two and three segments in the smallest pieces; no weights, and of logits those that there are."""
    sizes = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 3, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, num_hidden_layers=6, **sizes)).to(dtype)
    context, training = task_of(examples)
    needs = Needs.of(model.config, 0, dtype, len(context))
    tuner = Tuner(model, context, training[:17], context.config(), TuningSettings(), memory=0)
    of_labels = 2 * 17 * vocabulary * LOGIT_BYTES
    expected = needs.tune - LAID_OUT + of_labels
    assert 0.5 * expected < peak_bytes(tuner.step) < expected + BLOCKS

    trie, queries = LabelTrie.build(labels_of(labels)), queries_of(16)
    embeds, least = word_embeddings(model, context.tokens.ids), Sizes(512, 512, ON_CPU.pass_logits)

    def serve() -> None:
        read(model, PrefixKV.compute(model, embeds), [trie] * len(queries), queries, sizes=least)

    expected = needs.serve - min(LAID_OUT, needs.serve) + len(queries) * (1 + labels) * vocabulary * LOGIT_BYTES
    assert 0.35 * expected < peak_bytes(serve) < expected + BLOCKS
