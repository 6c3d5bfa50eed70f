"""Names of tasks, queues and bus keys, timing constants, error codes and job states."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Final

#: Claims of a job in a row without progress, after which it is given up.
MAX_ATTEMPTS: Final = 3

#: The tenant of all that is made without a key.
DEFAULT_TENANT: Final = "default"

DEFAULT_MODELS: Final[dict[str, dict[str, Any]]] = {"smollm2-135m-instruct": {"path": "embedded:smollm2-135m-instruct"}}

PLAN_TASK: Final = "contextune.plan"
EXPORT_TASK: Final = "contextune.export"
IMPORT_TASK: Final = "contextune.import"
TUNE_TASK: Final = "contextune.tune"
CLASSIFY_TASK: Final = "contextune.classify"

#: The channel of the bus on which all workers hear which contexts are about to be asked for.
RESIDENCY_CHANNEL: Final = "contextune:residency"

#: A claimed job is lost when its worker has not beaten for this long.
LEASE_SECONDS: Final = 6.0
#: How often a worker beats for the job that it runs.
HEARTBEAT_SECONDS: Final = 1.5


def tune_queue(model: str) -> str:
    """Celery queue of the wake-up calls for jobs of ``model``."""
    return f"tune.{model}"


def classify_queue(model: str, files: str = "") -> str:
    """Celery queue of the batches for ``model``; with ``files``, of those for its workers that have these files."""
    return f"classify.{model}@{files}" if files else f"classify.{model}"


def plan_queue(model: str) -> str:
    """Queue of plans, exports and imports for ``model``: they do not wait behind batches."""
    return f"plan.{model}"


def broker_url(url: str) -> str:
    """The bus's URL in the form that Celery wants: unix sockets have another scheme there."""
    return url.replace("unix://", "redis+socket://", 1)


def artifact_url(root: str, address: str) -> str:
    """Where the artifact with this address lies below the fsspec URL ``root``.

    An address is a SHA-256 in hexadecimal, and a suffix unless the artifact is a tuned context; or ``uploads/<id>``
    while the hash is not known.
    """
    if "/" in address:
        return f"{root.rstrip('/')}/{address}"
    return f"{root.rstrip('/')}/{address[:2]}/{address}{'' if '.' in address else '.safetensors'}"


def checkpoint_url(root: str, job_id: str) -> str:
    """Where the checkpoint of a job lies below the fsspec URL ``root``."""
    return f"{root.rstrip('/')}/checkpoints/{job_id}.safetensors"


def parse_model_ids(value: str) -> tuple[str, ...]:
    """Ids of the allow-list ``CONTEXTUNE_MODELS``, a JSON object ``{id: {...}}``; ValueError for any other form."""
    models = json.loads(value)
    if not isinstance(models, dict) or not models:
        raise ValueError("CONTEXTUNE_MODELS must be a JSON object with at least one model")
    return tuple(models)


class ErrorCode(StrEnum):
    """Stable codes of every expected failure, as they appear in problem documents and in a failed job."""

    INVALID_REQUEST = "invalid_request"
    INVALID_JSON = "invalid_json"
    MALFORMED_REQUEST = "malformed_request"
    REQUEST_TIMEOUT = "request_timeout"
    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    KEY_REQUIRED = "key_required"
    KEY_INVALID = "key_invalid"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    RATE_LIMITED = "rate_limited"
    TENANT_NOT_FOUND = "tenant_not_found"
    TENANT_DELETING = "tenant_deleting"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    TOO_MANY_EXAMPLES = "too_many_examples"
    TOO_MANY_INPUTS = "too_many_inputs"
    TOO_MANY_LABELS = "too_many_labels"
    TOO_FEW_LABELS = "too_few_labels"
    TEXT_TOO_LONG = "text_too_long"
    TEXT_EMPTY = "text_empty"
    TEXT_INVALID = "text_invalid"
    LABEL_UNKNOWN = "label_unknown"
    MULTI_LABEL_UNSUPPORTED = "multi_label_unsupported"
    LABELS_INDISTINGUISHABLE = "labels_indistinguishable"
    CONTRADICTING_EXAMPLES = "contradicting_examples"
    TEMPLATE_INVALID = "template_invalid"
    ADAPTER_INVALID = "adapter_invalid"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_UNSUPPORTED = "model_unsupported"
    EXAMPLES_NEEDED = "examples_needed"
    WARMING_UP = "warming_up"
    CONTEXT_TOO_LONG = "context_too_long"
    INPUT_TOO_LONG = "input_too_long"
    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONTEXT_NOT_FOUND = "context_not_found"
    JOB_NOT_FOUND = "job_not_found"
    CONTEXT_NOT_READY = "context_not_ready"
    ALIAS_NOT_FOUND = "alias_not_found"
    ALIAS_CHANGED = "alias_changed"
    PROMOTION_REFUSED = "promotion_refused"
    CONTEXT_FAILED = "context_failed"
    CONTEXT_IN_USE = "context_in_use"
    MODEL_CHANGED = "model_changed"
    JOB_NOT_CANCELLABLE = "job_not_cancellable"
    JOB_NOT_TERMINAL = "job_not_terminal"
    DELETED = "deleted"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    FORMAT_UNSUPPORTED = "format_unsupported"
    OVERLOADED = "overloaded"
    QUOTA = "quota"
    WEBHOOKS_DISABLED = "webhooks_disabled"
    SHUTTING_DOWN = "shutting_down"
    DISK_FULL = "disk_full"
    NO_WORKER = "no_worker"
    STORE_UNAVAILABLE = "store_unavailable"
    BUS_UNAVAILABLE = "bus_unavailable"
    WORKER_LOST = "worker_lost"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    OUT_OF_MEMORY = "out_of_memory"
    ARTIFACT_CORRUPT = "artifact_corrupt"
    ARTIFACTS_UNAVAILABLE = "artifacts_unavailable"
    INTERNAL = "internal"


class JobKind(StrEnum):
    """What a job does."""

    TUNING = "tuning"
    BATCH = "batch"


class JobStatus(StrEnum):
    """``queued → running → succeeded | failed | cancelled``."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether no further change is possible."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)
