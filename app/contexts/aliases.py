"""Aliases: words that point at one version of a name, and the gates that a version passes before an alias moves."""

from __future__ import annotations

from app.contract.names import ErrorCode, JobStatus
from app.contract.objects import Context, Score
from app.contract.payload import Payload
from app.errors import DomainError
from app.records.contexts import AliasRefused
from app.records.rows import StoredContext
from app.records.store import TenantRecords


class Requirements(Payload):
    """What the report of a version must bear out before an alias points at it.

    ``not_worse_than`` is another alias, or a version, of the same name, whose accuracy the version's must reach.
    """

    min_accuracy: float | None = None
    max_ece: float | None = None
    not_worse_than: str | None = None


def find_alias(records: TenantRecords, name: str, alias: str) -> StoredContext:
    """The version that an alias points at. Raises `DomainError` (``alias_not_found``)."""
    stored = records.contexts.resolve(f"{name}@{alias}", report=False)
    if stored is None:
        raise DomainError(ErrorCode.ALIAS_NOT_FOUND, "there is no such alias")
    return stored


def find_version(records: TenantRecords, name: str, version: int) -> StoredContext:
    """A version that can answer, with its report.

    Raises `DomainError` (``context_not_found``, ``context_not_ready``, ``context_failed``).
    """
    stored = records.contexts.resolve(f"{name}@{version}")
    if stored is None:
        raise DomainError(ErrorCode.CONTEXT_NOT_FOUND, f"this name has no version {version}", "/version")
    if stored.context.status != JobStatus.SUCCEEDED:
        raise _not_ready(stored.context.status)
    return stored


def check_requirements(records: TenantRecords, context: Context, required: Requirements) -> int | None:
    """Raise `DomainError` (``promotion_refused``), with all figures that fall short, unless the report bears them out.

    Returns the version that ``not_worse_than`` meant.
    """
    if required == Requirements():
        return None
    other = _other(records, context, required.not_worse_than) if required.not_worse_than is not None else None
    accuracy, ece = _figures(context)
    short = []
    if required.min_accuracy is not None and accuracy < required.min_accuracy:
        short.append(f"its accuracy is {accuracy:.3f}, below min_accuracy {required.min_accuracy:g}")
    if required.max_ece is not None and ece > required.max_ece:
        short.append(f"its ECE is {ece:.3f}, above max_ece {required.max_ece:g}")
    if other is not None and accuracy < (reached := _figures(other)[0]):
        short.append(f"its accuracy is {accuracy:.3f}, below the {reached:.3f} of {context.name}@{other.version}")
    if short:
        raise _refused("; ".join(short))
    return other.version if other is not None else None


def _other(records: TenantRecords, context: Context, ref: str) -> Context:
    found = records.contexts.resolve(f"{context.name}@{ref}")
    if found is None:
        text = "this name has no such alias or version"
        raise DomainError(ErrorCode.CONTEXT_NOT_FOUND, text, "/require/not_worse_than")
    return found.context


def set_alias(records: TenantRecords, name: str, alias: str, version: int, expected: int | None) -> int | None:
    """Let an alias point at a version; returns the version before, None for a new alias.

    Raises `DomainError` (``alias_changed`` unless it points at the ``expected`` version, ``context_not_found``, …).
    """
    outcome = records.contexts.set_alias(name, alias, version, expected)
    if not isinstance(outcome, AliasRefused):
        return outcome.before
    if outcome.reason == "changed":
        raise _changed()
    if outcome.reason == "unknown":
        raise DomainError(ErrorCode.CONTEXT_NOT_FOUND, f"this name has no version {version}", "/version")
    raise _not_ready(outcome.reason)


def delete_alias(records: TenantRecords, name: str, alias: str, expected: int | None) -> None:
    """Remove an alias if there is one. Raises `DomainError` (``alias_changed``)."""
    if records.contexts.delete_alias(name, alias, expected) == "changed":
        raise _changed()


def _figures(context: Context) -> tuple[float, float]:
    """Accuracy and ECE of what answers. Raises `DomainError` (``promotion_refused``) where none were measured."""
    score: Score | None = None
    if context.report is not None:
        score = context.report.icl if context.report.served == "icl" else context.report.tuned
    if score is None:
        which = f"{context.name}@{context.version}"
        raise _refused(f"the report of {which} has no figures: too few examples were held out to measure any")
    return score.accuracy, score.ece


def _refused(why: str) -> DomainError:
    return DomainError(ErrorCode.PROMOTION_REFUSED, f"the alias was not moved: {why}", "/require")


def _changed() -> DomainError:
    return DomainError(ErrorCode.ALIAS_CHANGED, "the alias points at another version than If-Match says")


def _not_ready(status: JobStatus) -> DomainError:
    if status.terminal:
        return DomainError(ErrorCode.CONTEXT_FAILED, f"the job of this version has {status}", "/version")
    return DomainError(ErrorCode.CONTEXT_NOT_READY, f"the job of this version is {status}", "/version", retry_after=1.0)
