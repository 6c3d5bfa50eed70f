"""What the service answers, as pydantic models. They are tolerant, so that a newer service can be read: a field that is
not known is ignored, and a word that is not known (a status, a code) is kept as text.
"""

from contextune.models.access import AuditEntry, Key, Limits, Tenant, Usage, UsageDay, Webhook
from contextune.models.batches import Batch, BatchError, BatchResult, Counts
from contextune.models.classification import Answer, AnswerUsage, Classification, LabelConfidence
from contextune.models.contexts import (
    Alias,
    BudgetOffer,
    Context,
    CreatedContext,
    DryRun,
    Example,
    ExampleWarning,
    LabelDescription,
    Template,
)
from contextune.models.jobs import Event, Job, JobError, Progress
from contextune.models.listing import Page
from contextune.models.report import (
    Difference,
    EpsilonUse,
    HarmfulExample,
    LabelScore,
    Report,
    Score,
    SuspectExample,
    Threshold,
    Trial,
    Verdict,
)
from contextune.models.service import BaseModelInfo, Device, ModelPage, NamedModel, Readiness

__all__ = [
    "Alias",
    "Answer",
    "AnswerUsage",
    "AuditEntry",
    "BaseModelInfo",
    "Batch",
    "BatchError",
    "BatchResult",
    "BudgetOffer",
    "Classification",
    "Context",
    "Counts",
    "CreatedContext",
    "Device",
    "Difference",
    "DryRun",
    "EpsilonUse",
    "Event",
    "Example",
    "ExampleWarning",
    "HarmfulExample",
    "Job",
    "JobError",
    "Key",
    "LabelConfidence",
    "LabelDescription",
    "LabelScore",
    "Limits",
    "ModelPage",
    "NamedModel",
    "Page",
    "Progress",
    "Readiness",
    "Report",
    "Score",
    "SuspectExample",
    "Template",
    "Tenant",
    "Threshold",
    "Trial",
    "Usage",
    "UsageDay",
    "Verdict",
    "Webhook",
]
