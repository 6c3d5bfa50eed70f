"""Plans: what a tuning job would need, measured before anything is stored. Knows the tokenizer, not the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.contract.batches import Failure
from app.contract.names import ErrorCode
from app.contract.tuning import Example, Hyperparameters, Plan, ResolvedHyperparameters, TuningSpec
from worker.cpt.config import CPTConfig
from worker.cpt.context import Context, Tokens, encode_example, encode_labels, encode_query
from worker.cpt.template import Template
from worker.models import BaseModel

_DEFAULT_STEPS: Final = 20
_DEFAULT_LEARNING_RATE: Final = 1e-2
#: Share of the device's matrix rate that tuning reaches, for the estimate.
_EFFICIENCY: Final = 0.6


@dataclass(frozen=True)
class Encoded:
    """A `TuningSpec` as tokens.

    ``training`` holds the copies of the context's examples, then those outside it; ``validation`` holds queries.
    """

    context: Context
    training: tuple[Tokens, ...]
    validation: tuple[tuple[int, ...], ...]
    label_ids: tuple[tuple[int, ...], ...]
    template: Template


class Unplannable(Exception):
    """A spec that this model cannot be tuned with, for the reason in ``failure``."""

    def __init__(self, code: ErrorCode, message: str, param: str) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, param=param)


def encode(base: BaseModel, spec: TuningSpec) -> Encoded:
    """Template and tokenise a spec. Raises `Unplannable` when two labels have the same tokens."""
    template = Template(**spec.template.model_dump())
    try:
        label_ids = encode_labels(base.tokenizer, template, spec.label_names)
    except ValueError as error:
        raise Unplannable(ErrorCode.LABELS_INDISTINGUISHABLE, str(error), "/examples") from error
    copies = _encode_all(base, template, spec.examples)
    others = _encode_all(base, template, spec.training_examples)
    return Encoded(
        context=Context.build(base.tokenizer, template, [(e.text, e.label) for e in spec.examples]),
        training=(*(replace(tokens, context_index=i) for i, tokens in enumerate(copies)), *others),
        validation=tuple(
            tuple(encode_query(base.tokenizer, template, example.text)) for example in spec.validation_examples
        ),
        label_ids=tuple(tuple(ids) for ids in label_ids),
        template=template,
    )


def _encode_all(base: BaseModel, template: Template, examples: Sequence[Example]) -> list[Tokens]:
    return [encode_example(base.tokenizer, template, example.text, example.label) for example in examples]


def plan(base: BaseModel, spec: TuningSpec) -> Plan:
    """What tuning ``spec`` takes. Raises `Unplannable` when the context is longer than the model allows."""
    encoded = encode(base, spec)
    longest_label = max(len(ids) for ids in encoded.label_ids)
    longest = max(
        *(len(tokens) for tokens in encoded.training), *(len(query) + longest_label for query in encoded.validation)
    )
    _check_length(len(encoded.context), longest, base.context_length)
    resolved = resolve(spec.hyperparameters)
    return Plan(
        context_tokens=len(encoded.context),
        longest_example_tokens=longest,
        context_limit=base.context_length,
        training_examples=len(encoded.training),
        hyperparameters=resolved,
        estimated_seconds=_estimate_seconds(base, encoded, resolved),
    )


def _check_length(context: int, longest: int, limit: int) -> None:
    if context + longest > limit:
        raise Unplannable(
            ErrorCode.CONTEXT_TOO_LONG,
            f"the context has {context} tokens and the longest example {longest}; "
            f"together they may have {limit}, the context length of the model",
            "/examples",
        )


def resolve(given: Hyperparameters) -> ResolvedHyperparameters:
    """The values that "auto" stands for: those of the reference's configuration."""
    defaults = {
        "steps": _DEFAULT_STEPS,
        "learning_rate": _DEFAULT_LEARNING_RATE,
        "batch_size": None,
        "projection_epsilon": CPTConfig.opt_projection_epsilon,
        "projection_format_epsilon": CPTConfig.opt_projection_format_epsilon,
        "weighted_loss_type": CPTConfig.opt_weighted_loss_type,
        "loss_decay_factor": CPTConfig.opt_loss_decay_factor,
        "leave_one_out": False,
        "token_dropout": 0.0,
        "method": "cpt",
    }
    chosen = given.model_dump()
    values = {name: defaults[name] if value == "auto" else value for name, value in chosen.items()}
    if values["method"] == "icl":
        values["steps"] = 0
    return ResolvedHyperparameters.model_validate(values)


def _estimate_seconds(base: BaseModel, encoded: Encoded, resolved: ResolvedHyperparameters) -> float:
    """Forward and backward through activations take four floating-point operations a parameter and token."""
    tokens = tokens_per_step(encoded, resolved.batch_size)
    return resolved.steps * 4 * base.parameters * tokens / (base.flops * _EFFICIENCY)


def tokens_per_step(encoded: Encoded, batch_size: int | None) -> int:
    """Tokens that one step computes, on average: the context once and each training example of the batch."""
    trained = sum(len(tokens) for tokens in encoded.training)
    share = 1.0 if batch_size is None else min(1.0, batch_size / len(encoded.training))
    return len(encoded.context) + round(trained * share)
