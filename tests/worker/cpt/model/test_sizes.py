import pytest
import torch
from transformers import LlamaConfig

from tests.worker.tiny import causal_model
from worker.cpt.model.sizes import ON_CPU, Sizes, launch_bound_tokens, recorded_tokens

GIB = 1024**3
SMALL = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30)
LARGE = LlamaConfig(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32)


def test_sizes_on_a_cpu_suit_its_caches() -> None:
    assert Sizes.of(causal_model()) == ON_CPU


@pytest.mark.parametrize(("memory", "config", "dtype"), [(70, SMALL, torch.float32), (60, LARGE, torch.bfloat16)])
def test_large_gpu_takes_many_tokens_at_once(memory: int, config: LlamaConfig, dtype: torch.dtype) -> None:
    sizes = Sizes.within(memory * GIB, config, dtype)
    assert 2048 <= sizes.chunk_tokens <= 16384
    assert sizes.pass_logits * 12 <= memory * GIB / 16


def test_chunk_of_an_8b_model_leaves_most_of_a_small_gpu() -> None:
    sizes = Sizes.within(24 * GIB, LARGE, torch.bfloat16)
    token = 32 * (8 * 4096 + 3 * 14336) * 2
    assert sizes.chunk_tokens * token <= 24 * GIB / 4


@pytest.mark.parametrize("memory", [0, -GIB, 1])
def test_full_gpu_still_gets_pieces_that_can_be_tried(memory: int) -> None:
    assert Sizes.within(memory, LARGE, torch.bfloat16).chunk_tokens == ON_CPU.chunk_tokens


def test_small_differences_of_memory_change_nothing() -> None:
    assert Sizes.within(60 * GIB, LARGE, torch.bfloat16) == Sizes.within(60 * GIB + 10**8, LARGE, torch.bfloat16)


def test_steps_that_launches_bound_are_those_of_small_models_on_gpus() -> None:
    assert launch_bound_tokens(135_000_000) > 16384
    assert 256 < launch_bound_tokens(8_000_000_000) < 1024
    assert recorded_tokens(causal_model()) == 0
