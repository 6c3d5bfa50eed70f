"""Plans: what a tuning job would need, told before anything is stored."""

from __future__ import annotations

import math
from typing import Any, Final

import structlog
from structlog.contextvars import bound_contextvars

from app.contract.messages import Failure, PlanReply, PlanRequest
from app.contract.names import ErrorCode
from app.contract.traces import span
from app.contract.tuning import BudgetOffer, Plan, ResolvedHyperparameters, TuningSpec
from app.records.rows import tolerant
from worker.artifacts import ArtifactCorrupt, Artifacts
from worker.cpt.encoding.context import encode_query
from worker.cpt.selection.prompts import cross_fitted_prompts, prompt_tokens
from worker.cpt.selection.trials import Trial
from worker.jobs.defaults import planned_encoder_steps, planned_trials, resolve, search_settings
from worker.jobs.encoding import Encoded, Unplannable, encode
from worker.jobs.pricing import Pricing
from worker.models import LanguageModel

#: Budgets that a plan tells the worth of, besides its own; None, which stands last, is no bound.
_BUDGETS_SECONDS: Final = (30.0, 120.0, 600.0, math.inf)


def read_spec(artifacts: Artifacts, address: str) -> TuningSpec:
    """The spec in the file at ``address``. Raises `Unplannable` where it cannot be read here."""
    try:
        return tolerant(TuningSpec, artifacts.get(address).decode())
    except (OSError, ArtifactCorrupt) as error:
        structlog.get_logger().error("spec_unreadable", address=address, reason=str(error))
        message = "the worker cannot read the file of the examples; gateway and workers must share their artifacts"
        raise Unplannable(ErrorCode.ARTIFACTS_UNAVAILABLE, message) from error


def plan(base: LanguageModel, spec: TuningSpec) -> Plan:
    """What tuning ``spec`` takes.

    Raises `Unplannable` for an example, for the reference's context, or for a prompt of the shortest example alone,
    that is longer than the model allows, and for labels that cannot be scored.
    """
    encoded = encode(base, spec)
    longest = _longest(encoded, base.context_length)
    if longest > base.context_length:
        raise _too_long(base, spec, encoded, longest)
    resolved = resolve(base, spec.hyperparameters, encoded)
    context = _context_tokens(base, encoded, resolved)
    pricing = Pricing(base, encoded, resolved.model_dump())
    done = pricing.affordable(resolved.trials, resolved.max_seconds)
    settings = search_settings(base, resolved, encoded.shots)
    return Plan(
        context_tokens=context,
        longest_example_tokens=longest,
        context_limit=base.context_length,
        training_examples=len(encoded.shots),
        hyperparameters=resolved,
        total_steps=sum(trial.steps * settings.runs(Trial(**trial.model_dump())) for trial in done),
        estimated_seconds=pricing.searching(done, resolved.max_seconds) + pricing.measuring(),
        budgets=_budgets(base, resolved, spec.hyperparameters.encoder_steps, encoded),
    )


def _budgets(
    base: LanguageModel, resolved: ResolvedHyperparameters, encoder_steps: int | str, encoded: Encoded
) -> tuple[BudgetOffer, ...]:
    """What bounds would buy, the asked one among them; `encoder_steps` as they were asked for.

    None where the method has no bound.
    """
    if resolved.method != "auto":
        return ()
    offers = []
    own = math.inf if resolved.max_seconds is None else resolved.max_seconds
    for bound in sorted({*_BUDGETS_SECONDS, own}):
        seconds = None if bound == math.inf else bound
        values: dict[str, Any] = resolved.model_dump() | {"max_seconds": seconds, "trials": None}
        values["encoder_steps"] = planned_encoder_steps(base, values | {"encoder_steps": encoder_steps}, encoded)
        pricing = Pricing(base, encoded, values)
        trials = pricing.affordable(planned_trials(base, values, encoded), seconds)
        offers.append(
            BudgetOffer(
                max_seconds=seconds,
                estimated_seconds=pricing.searching(trials, seconds) + pricing.measuring(),
                trials=trials,
                encoder_steps=values["encoder_steps"],
            )
        )
    return tuple(offers)


def _context_tokens(base: LanguageModel, encoded: Encoded, resolved: ResolvedHyperparameters) -> int:
    """Tokens of all prompts; of cross-fitted ones about, since sentence vectors have a say in what stands in them."""
    shots, limit = encoded.shots, base.context_length
    if resolved.method != "auto":
        context = len(shots.context_of(range(shots.context)))
        _check_length(context, _longest(encoded, limit), limit)
        return context
    settings = search_settings(base, resolved, shots)
    first, most = resolved.trials[0], prompt_tokens(shots, limit)
    plans = cross_fitted_prompts(shots, settings.prompts, first.context_examples, most, None, resolved.seed)
    lengths = [len(shots.context_of(one.context)) for one in plans]
    _check_length(max(lengths), shots.longest_example(limit), limit)
    return sum(lengths[: first.prompts])


def _longest(encoded: Encoded, limit: int) -> int:
    """Tokens of the longest example, validation examples included, whatever label it is scored for."""
    shots = encoded.shots
    validation = max(map(len, encoded.validation), default=0) + max(map(len, shots.label_ids))
    return max(shots.longest_example(limit), validation)


def _too_long(base: LanguageModel, spec: TuningSpec, encoded: Encoded, longest: int) -> Unplannable:
    """The refusal of an example that is too long by itself, at the first such one."""
    shots, limit = encoded.shots, base.context_length
    label, tokens, param = max(map(len, shots.label_ids)), longest, "/examples"
    for pointer, example in spec.pointed():
        if len(example.text.encode()) < limit // 2:
            continue  # as in `longest_example`: a token has a byte at least
        query = len(encode_query(shots.tokenizer, shots.template, example.text))
        if query + label > limit:
            tokens, param = query + label, f"{pointer}/text"
            break
    message = f"the example has {tokens} tokens with its label; it may have {limit}, the context length of the model"
    return Unplannable(ErrorCode.CONTEXT_TOO_LONG, message, param)


def _check_length(context: int, longest: int, limit: int) -> None:
    if context + longest > limit:
        raise Unplannable(
            ErrorCode.CONTEXT_TOO_LONG,
            f"the context has {context} tokens and the longest example {longest}; "
            f"together they may have {limit}, the context length of the model",
            "/examples",
        )


def planned(base: LanguageModel, artifacts: Artifacts, request: PlanRequest) -> PlanReply:
    """The reply to a request for a plan; what went wrong is in it."""
    try:
        with bound_contextvars(request_id=request.request_id), span("plan", request.traceparent):
            return PlanReply(id=request.id, plan=plan(base, read_spec(artifacts, request.spec)))
    except Unplannable as error:
        return PlanReply(id=request.id, failure=error.failure)
    except Exception as error:  # noqa: BLE001 - whatever it is, the waiting caller must learn of it
        structlog.get_logger().error("plan_failed", request_id=request.request_id, exc_info=error)
        failure = Failure(code=ErrorCode.INTERNAL, message="an unexpected error in the worker")
        return PlanReply(id=request.id, failure=failure)
