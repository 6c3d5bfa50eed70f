"""Plans: what a tuning job would need, measured before anything is stored. Knows the tokenizer, not the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from app.contract.messages import Failure
from app.contract.names import ErrorCode
from app.contract.tuning import Hyperparameters, Plan, ResolvedHyperparameters, TuningSpec
from worker.cpt.encoding.context import Context, Tokens, encode_labels, encode_query
from worker.cpt.encoding.shots import Shots
from worker.cpt.encoding.template import Template, TokenType
from worker.cpt.scoring.features import TEXT_COPIES, TEXT_TOKENS
from worker.cpt.scoring.scorer import LabelTrie
from worker.cpt.scoring.text_head import MOST_READ
from worker.cpt.selection.folds import FEWEST
from worker.cpt.selection.search import SearchSettings, held_out_folds
from worker.cpt.tuning.config import CPTConfig
from worker.cpt.tuning.tuner import TuningSettings
from worker.models import LanguageModel

#: What "auto" stands for where the method is the reference's: the values of its configuration.
_REFERENCE: Final[dict[str, Any]] = {
    "steps": 20,
    "learning_rate": 1e-2,
    "batch_size": None,
    "projection_epsilon": CPTConfig.opt_projection_epsilon,
    "projection_format_epsilon": CPTConfig.opt_projection_format_epsilon,
    "weighted_loss_type": CPTConfig.opt_weighted_loss_type,
    "loss_decay_factor": CPTConfig.opt_loss_decay_factor,
    "leave_one_out": False,
    "token_dropout": 0.0,
    "epsilon_unit": "reference",
    "learning_rate_schedule": "constant",
    "cross_validation": False,
    "early_stopping": False,
    "calibration": False,
    "head": False,
}
#: What it stands for where the method is "auto", unless it is chosen on held-out folds.
_BEST: Final[dict[str, Any]] = {
    "steps": 6,
    "learning_rate": 1e-2,
    "projection_epsilon": 0.17,
    "projection_format_epsilon": 0.17,
    "weighted_loss_type": "none",
    "loss_decay_factor": 1.0,
    "token_dropout": 0.05,
    "epsilon_unit": "embedding_norm",
    "learning_rate_schedule": "constant",
    "cross_validation": True,
    "early_stopping": True,
    "calibration": True,
    "head": True,
}
#: Training examples in a step of "auto", at most.
_BATCH: Final = 64
#: Tokens of the labels' trie, at most: each query is followed by all of them, and each sees all above it.
MAX_LABEL_TOKENS: Final = 1024
#: Plain runs that a search may cost, and the fewest examples that a context's bias is measured on to keep to it.
_BUDGET: Final = 4
_LEAST_FOR_BIAS: Final = 4
#: Share of the device's matrix rate that tuning reaches, for the estimate.
_EFFICIENCY: Final = 0.5


@dataclass(frozen=True)
class Encoded:
    """A `TuningSpec` as tokens: what is tuned on, and queries that are only measured."""

    shots: Shots
    validation: tuple[tuple[int, ...], ...]

    @cached_property
    def context(self) -> Context:
        """The context of all its examples."""
        return self.shots.context_of(range(len(self.shots)))

    @cached_property
    def label_tokens(self) -> int:
        """Tokens that every query is scored with besides its own."""
        return len(LabelTrie.build(self.shots.label_ids).tokens)

    @cached_property
    def training(self) -> tuple[Tokens, ...]:
        """The copies of the context's examples, then those outside it."""
        return tuple(self.shots.training_of(range(len(self.shots))))


class Unplannable(Exception):
    """A spec that this model cannot be tuned with, for the reason in ``failure``."""

    def __init__(self, code: ErrorCode, message: str, param: str) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, param=param)


def encode(base: LanguageModel, spec: TuningSpec) -> Encoded:
    """Template and tokenise a spec. Raises `Unplannable` when two labels have the same tokens."""
    template, names = Template(**spec.template.model_dump()), spec.label_names
    try:
        label_ids = encode_labels(base.tokenizer, template, names)
    except ValueError as error:
        raise Unplannable(ErrorCode.LABELS_INDISTINGUISHABLE, str(error), "/examples") from error
    examples, numbers = (*spec.examples, *spec.training_examples), {name: i for i, name in enumerate(names)}
    shots = Shots(
        tokenizer=base.tokenizer,
        template=template,
        labels=names,
        label_ids=tuple(map(tuple, label_ids)),
        texts=tuple(example.text for example in examples),
        truth=tuple(numbers[example.label] for example in examples),
        context=len(spec.examples),
    )
    queries = (tuple(encode_query(base.tokenizer, template, example.text)) for example in spec.validation_examples)
    return Encoded(shots, tuple(queries))


def plan(base: LanguageModel, spec: TuningSpec) -> Plan:
    """What tuning ``spec`` takes.

    Raises `Unplannable` for a context that is longer than the model allows, and for labels that cannot be scored.
    """
    encoded = encode(base, spec)
    _check_labels(encoded.label_tokens, "/examples" if spec.labels is None else "/labels")
    longest = _longest(encoded)
    _check_length(len(encoded.context), longest, base.context_length)
    resolved = resolve(spec)
    search = search_settings(base, spec.hyperparameters, resolved, encoded)
    trials = len(held_out_folds(encoded.shots, search)) * len(search.configs)
    measuring = _measuring_tokens(encoded, search)
    return Plan(
        context_tokens=len(encoded.context),
        longest_example_tokens=longest,
        context_limit=base.context_length,
        training_examples=len(encoded.training),
        hyperparameters=resolved,
        trials=trials,
        total_steps=(trials + 1) * resolved.steps,
        plain_seconds=_seconds(base, _plain_tokens(encoded, resolved) + measuring),
        estimated_seconds=_seconds(base, _search_tokens(encoded, search) + measuring),
    )


def _longest(encoded: Encoded) -> int:
    """Tokens of the longest example, whatever label it is scored for."""
    queries = [tokens.types.index(TokenType.LABEL) for tokens in encoded.training] + [*map(len, encoded.validation)]
    scored = max(queries) + max(map(len, encoded.shots.label_ids))
    return max(scored, *map(len, encoded.training))


def _check_labels(nodes: int, param: str) -> None:
    if nodes > MAX_LABEL_TOKENS:
        raise Unplannable(
            ErrorCode.TEXT_TOO_LONG,
            f"beginnings that they share counted once, the labels have {nodes} tokens before their last ones; "
            f"at most {MAX_LABEL_TOKENS} can be scored",
            param,
        )


def _check_length(context: int, longest: int, limit: int) -> None:
    if context + longest > limit:
        raise Unplannable(
            ErrorCode.CONTEXT_TOO_LONG,
            f"the context has {context} tokens and the longest example {longest}; "
            f"together they may have {limit}, the context length of the model",
            "/examples",
        )


def resolve(spec: TuningSpec) -> ResolvedHyperparameters:
    """The values that "auto" stands for: the reference's, or for the method "auto" the best known."""
    given = spec.hyperparameters.model_dump(include=set(ResolvedHyperparameters.model_fields))
    examples = len(spec.examples) + len(spec.training_examples)
    best = _BEST | {
        "batch_size": None if examples <= _BATCH else _BATCH,
        "leave_one_out": len(spec.examples) >= FEWEST,  # with fewer there is little left to learn from
    }
    defaults = best if given["method"] == "auto" else _REFERENCE
    values = {name: defaults[name] if name != "method" and value == "auto" else value for name, value in given.items()}
    if values["method"] == "icl":
        values |= {"steps": 0, "cross_validation": False, "early_stopping": False, "calibration": False, "head": False}
    return ResolvedHyperparameters.model_validate(values)


def search_settings(
    base: LanguageModel, given: Hyperparameters, resolved: ResolvedHyperparameters, encoded: Encoded
) -> SearchSettings:
    """How a job searches. The loss is chosen on held-out folds if that and the steps are left to the service.

    Where that would cost more than `_BUDGET` plain runs, fewer examples are held out; not if the user says what a step
    or a run is.
    """
    search = _unbounded(base, given, resolved)
    if given.steps == given.batch_size == "auto":
        budget = _BUDGET * _plain_tokens(encoded, resolved)
        while _search_tokens(encoded, search) > budget and search.most_for_bias > _LEAST_FOR_BIAS:
            fewer = search.most_held_out // 2, search.most_for_bias // 2
            search = replace(search, most_held_out=fewer[0], most_for_bias=fewer[1])
    return search


def _unbounded(base: LanguageModel, given: Hyperparameters, resolved: ResolvedHyperparameters) -> SearchSettings:
    config = {
        "opt_weighted_loss_type": resolved.weighted_loss_type,
        "opt_loss_decay_factor": resolved.loss_decay_factor,
        "opt_projection_epsilon": resolved.projection_epsilon,
        "opt_projection_format_epsilon": resolved.projection_format_epsilon,
    }
    label_only = config | {"opt_weighted_loss_type": "decay", "opt_loss_decay_factor": 0.0}
    left = given.weighted_loss_type == given.loss_decay_factor == given.steps == "auto"
    steps = resolved.steps
    return SearchSettings(
        tuning=TuningSettings(
            steps=steps,
            learning_rate=resolved.learning_rate,
            batch_size=resolved.batch_size,
            seed=resolved.seed,
            leave_one_out=resolved.leave_one_out,
            token_dropout=resolved.token_dropout,
            cosine=resolved.learning_rate_schedule == "cosine",
            epsilon_unit=base.embedding_norm if resolved.epsilon_unit == "embedding_norm" else None,
        ),
        configs=(config, label_only) if left and resolved.method == "auto" else (config,),
        stops=tuple(sorted({0, steps // 2, steps})) if resolved.early_stopping else (steps,),
        folds=resolved.cross_validation,
        calibration=resolved.calibration,
        head=resolved.head,
    )


def _plain_tokens(encoded: Encoded, resolved: ResolvedHyperparameters) -> float:
    """Tokens, forward and back, of one plain run with the same examples.

    Its steps are the reference's, or the user's if they are more.
    """
    steps = max(resolved.steps, _REFERENCE["steps"]) if resolved.method == "auto" else resolved.steps
    return steps * encoded.shots.tokens_per_step(range(len(encoded.shots)), resolved.batch_size)


def _search_tokens(encoded: Encoded, search: SearchSettings) -> float:
    """Tokens that are computed forward and back; those that are only scored count half."""
    examples, context, folds = len(encoded.training), len(encoded.context), held_out_folds(encoded.shots, search)
    tokens = encoded.shots.tokens_per_step(range(len(encoded.shots)), search.tuning.batch_size)
    example = sum(map(len, encoded.training)) / examples
    query = example + encoded.label_tokens

    def judged(share: float, held_out: int) -> float:
        """A context of this share of the examples, its bias, and what is predicted with it."""
        biased = min(search.most_for_bias, share * examples) if search.calibration else 0
        return share * context + (biased + held_out) * query

    total = search.tuning.steps * tokens + (judged(1, 0) / 2 if search.calibration else 0)
    for fold in folds:
        share, stops = 1 - len(fold) / examples, len(search.stops) * len(search.configs)
        total += share * search.tuning.steps * tokens * len(search.configs)
        total += stops * judged(share, len(fold)) / 2
    if search.head:
        read = min(MOST_READ + sum(map(len, folds)), examples)
        total += read * TEXT_COPIES * min(example, TEXT_TOKENS) / 2
    return total


def _measuring_tokens(encoded: Encoded, search: SearchSettings) -> float:
    """The same for the validation examples, which the plain and the tuned context are measured on."""
    lengths = [len(query) for query in encoded.validation]
    scored = 2 * sum(length + encoded.label_tokens for length in lengths)
    read = sum(TEXT_COPIES * min(length, TEXT_TOKENS) for length in lengths) if search.head else 0
    return (scored + read) / 2


def _seconds(base: LanguageModel, tokens: float) -> float:
    """Forward and backward through activations take four floating-point operations a parameter and token."""
    return 4 * base.parameters * tokens / (base.flops * _EFFICIENCY)
