"""Contexts to submit, and the store's clock turned forward."""

from typing import Any

import redis

from app.contract.names import DEFAULT_TENANT
from app.contract.tuning import Example, Hyperparameters, Plan, ResolvedHyperparameters, TuningSpec
from app.records.contexts import Submission
from app.records.store import Records
from tests.waiting import eventually

MODEL = "tiny"
EXAMPLES = (
    Example(text="great film", label="good"),
    Example(text="awful plot", label="bad"),
    Example(text="lovely cast", label="good"),
    Example(text="boring and long", label="bad"),
)


def resolved(**changes: Any) -> ResolvedHyperparameters:
    values: dict[str, Any] = {
        "method": "cpt",
        "steps": 3,
        "learning_rate": 0.01,
        "batch_size": None,
        "seed": 0,
        "projection_epsilon": 0.1,
        "projection_format_epsilon": 0.1,
        "weighted_loss_type": "none",
        "loss_decay_factor": 1.0,
        "leave_one_out": False,
        "token_dropout": 0.0,
    }
    values.update(changes)
    if values["method"] == "icl":
        values["steps"] = 0
    return ResolvedHyperparameters(**values)


def plan(**changes: Any) -> Plan:
    return Plan(
        context_tokens=20,
        longest_example_tokens=7,
        context_limit=256,
        training_examples=len(EXAMPLES),
        hyperparameters=resolved(**changes),
        total_steps=resolved(**changes).steps,
        estimated_seconds=1.5,
    )


def submission(name: str | None = None, model: str = MODEL, **changes: Any) -> Submission:
    """Four examples; ``changes`` are `TuningSpec` fields and, under ``hyperparameters``, resolved values."""
    hyperparameters = changes.pop("hyperparameters", {})
    metadata = changes.pop("metadata", {})
    fields = {"examples": EXAMPLES, "hyperparameters": Hyperparameters(**hyperparameters), **changes}
    return Submission(
        name=name, model=model, spec=TuningSpec(**fields), plan=plan(**hyperparameters), metadata=metadata
    )


def overdue(client: redis.Redis, job_id: str) -> None:
    """Make the lease on a job end now, as if its worker had not beaten for long."""
    client.zadd("{ct}:leases", {f"{DEFAULT_TENANT}:{job_id}": 0})


def sweep_up(records: Records, client: redis.Redis, job_id: str) -> None:
    """Take a job from a worker that goes on beating for it."""

    def swept() -> bool:
        overdue(client, job_id)
        return bool(records.sweep())

    eventually(swept)
