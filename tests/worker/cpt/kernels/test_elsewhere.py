"""What is recorded on a GPU, on a device that has shapes alone: it copies nothing from the host or to it.

On the CPU, where host and device are one, no copy shows.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.worker.architectures import MODELS, MORE_MODELS, tiny_model
from tests.worker.cpt.tasks import random_task
from worker.cpt.kernels import backend, cuda
from worker.cpt.kernels.recording import _WithoutTheHost
from worker.cpt.model.base_model import prepare, word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.rectangle import Rectangle, Shape
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS
from worker.cpt.tuning.gradient import Chunk
from worker.cpt.tuning.loss import context_labels
from worker.cpt.tuning.whole import WholeStep

META = torch.device("meta")
#: But for BLOOM, which transformers 5.17 gives a bias, not used here, from numbers of the host.
ARCHITECTURES = [name for name in [*MODELS, *MORE_MODELS] if name != "bloom"]


def gradients_of(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, scale: float) -> list[Tensor]:
    """The shapes of the backward operator, whose own function for them takes its arguments in another order."""
    return [torch.empty_like(query), torch.empty(key.shape, device=META), torch.empty(value.shape, device=META)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recorded_work_copies_nothing_between_host_and_device(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backend._MODULES, META.type, backend._MODULES["cuda"])
    kernel = cuda.MemoryEfficient(torch.ops.aten._efficient_attention_forward, gradients_of)
    monkeypatch.setattr(cuda, "backward", kernel.backward)
    model = tiny_model(architecture).to(META)
    prepare(model)
    prefix, trie = PrefixKV.compute(model, word_embeddings(model, [1, 2, 3])), LabelTrie.build([[5], [6, 7], [6, 8]])
    rectangle = Rectangle(model, prefix, trie, VIEWS, Shape(2, 16))
    task = random_task()
    labels = context_labels(task.context.tokens, task.config())
    step = WholeStep(model, len(task.context), labels, Chunk(tuple(task.training)))
    hidden = torch.zeros(sum(map(len, task.training)), len(task.context), device=META)
    embeds = word_embeddings(model, task.context.tokens.ids)
    ids, lengths = (torch.ones(shape, dtype=torch.int64, device=META) for shape in ((2, 16), (2,)))
    with _WithoutTheHost():
        loss, gradient = step(embeds, hidden)
        with torch.inference_mode():
            scores, states = rectangle(ids, lengths)
    assert {tensor.device for tensor in (loss, gradient, scores, states)} == {META}
