"""What the service answers, as pydantic models. They are tolerant, so that a newer service can be read: a field that is
not known is ignored, and a word that is not known (a status, a code) is kept as text.
"""

from contextune.models.access import AuditEntry, Key, Limits, Tenant, Usage, Webhook
from contextune.models.batches import Batch, BatchError, BatchResult, Counts
from contextune.models.classification import Answer, Classification, LabelConfidence
from contextune.models.contexts import Alias, Context, CreatedContext, DryRun, Example, LabelDescription, Template
from contextune.models.jobs import Event, Job, JobError, Progress
from contextune.models.listing import Page
from contextune.models.report import Report, Score, Threshold
from contextune.models.service import BaseModelInfo, ModelPage, NamedModel, Readiness

__all__ = [
    "Alias",
    "Answer",
    "AuditEntry",
    "BaseModelInfo",
    "Batch",
    "BatchError",
    "BatchResult",
    "Classification",
    "Context",
    "Counts",
    "CreatedContext",
    "DryRun",
    "Event",
    "Example",
    "Job",
    "JobError",
    "Key",
    "LabelConfidence",
    "LabelDescription",
    "Limits",
    "ModelPage",
    "NamedModel",
    "Page",
    "Progress",
    "Readiness",
    "Report",
    "Score",
    "Template",
    "Tenant",
    "Threshold",
    "Usage",
    "Webhook",
]
