"""Random contexts and training examples for the tiny models."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch

from worker.cpt.encoding.context import Context, Tokens
from worker.cpt.encoding.template import TokenType
from worker.cpt.tuning.config import CPTConfig

VOCABULARY = 97
BOS = Tokens((1,), (TokenType.SEPARATOR,), (-1,))


class Task(NamedTuple):
    """A context and what to train it on; the last training example is not in the context."""

    context: Context
    training: list[Tokens]

    def config(self, **settings: Any) -> CPTConfig:
        """Decay, and balls small enough to be left within a few steps."""
        defaults = {"opt_weighted_loss_type": "decay", "opt_loss_decay_factor": 0.95}
        radii = {"opt_projection_epsilon": 1.0, "opt_projection_format_epsilon": 0.5}
        return self.context.config(**(defaults | radii | settings))


def random_example(generator: torch.Generator, text_tokens: int, label_tokens: int) -> Tokens:
    """between, input template, input, separator, output template and label, of random ids."""
    kinds = [TokenType.SEPARATOR] * 2 + [TokenType.INPUT_TEMPLATE] * 2 + [TokenType.INPUT] * text_tokens
    kinds += [TokenType.SEPARATOR] + [TokenType.OUTPUT_TEMPLATE] + [TokenType.LABEL] * label_tokens
    ids = torch.randint(3, VOCABULARY, (len(kinds),), generator=generator).tolist()
    return Tokens(tuple(ids), tuple(kinds), (-1, -1) + (0,) * (len(kinds) - 2))


def random_task() -> Task:
    """Four examples of different lengths, all in the context and trained on, and a fifth that is only trained on."""
    generator = torch.Generator().manual_seed(1)
    examples = [random_example(generator, 3 + number, 1 + number % 2) for number in range(4)]
    tokens = BOS
    for number, example in enumerate(examples):
        tokens = tokens + example.belonging_to(number)
    training = [replace(example, context_index=number) for number, example in enumerate(examples)]
    return Task(Context(tokens), [*training, random_example(generator, 8, 3)])
