"""The report of a context as a page: whether to use it, how good it is, what to look at again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from contextune.cli.output import clipped, table
from contextune.cli.pages import ref_of
from contextune.models.contexts import Context
from contextune.models.report import Interval, Report, Score

#: A JSON pointer to an example as people find it: ``line 7: the text``.
Located = Callable[[str], str]

_FIGURES: Final = (("accuracy", "accuracy", True), ("macro F1", "macro_f1", True), ("log loss", "nll", False),
                   ("calibration error (ECE)", "ece", False), ("Brier score", "brier", False))  # fmt: skip
_DECISIONS: Final = {
    "serve": "serve it",
    "serve_above_threshold": "serve it above a min_confidence",
    "more_examples": "give it more examples first",
}
_SERVED: Final = {
    "tuned": "the tuned context",
    "calibrated": "the calibrated context, its prompts not tuned",
    "icl": "the plain context (ICL)",
}
_MOST_LABELS_OF_A_MATRIX: Final = 10
_MOST_ROWS: Final = 12
_LONGEST_LINE: Final = 400
_BARS: Final = "▁▂▃▄▅▆▇█"


def print_context(console: Console, context: Context, located: Located = str) -> None:
    """Print what is known of a context, its report included."""
    head = f"{ref_of(context)} · {context.status} · {len(context.labels)} labels · {context.model}"
    console.print(head, style="bold")
    if context.error:
        console.print(f"failed: {context.error.message} [{context.error.code}]")
    if context.aliases:
        console.print(f"aliases: {', '.join(context.aliases)}")
    if context.metadata:
        pairs = ", ".join(f"{key}={value}" for key, value in context.metadata.items())
        console.print(f"metadata: {clipped(pairs, _LONGEST_LINE)}")
    if context.report:
        print_report(console, context.report, context.labels, located)


def print_report(console: Console, report: Report, labels: Sequence[str], located: Located = str) -> None:
    """Print the parts of a report that have something to say."""
    parts = (_verdict(report), _quality(report), _by_label(report), _confusions(report, labels),
             _suspects(report, located), _thresholds(report), _learning(report), _notes(report))  # fmt: skip
    for part in parts:
        for index, piece in enumerate(part):
            if index == 0:
                console.print()
            if isinstance(piece, str):
                console.print(clipped(piece, _LONGEST_LINE), soft_wrap=not console.is_terminal)
            else:
                console.print(piece)


def _verdict(report: Report) -> Iterator[str]:
    if report.verdict:
        decision = _DECISIONS.get(report.verdict.decision, report.verdict.decision)
        reason = report.verdict.reason
        yield f"Verdict: {decision}. {reason[:1].upper()}{reason[1:]}".rstrip()
    yield f"What answers: {_SERVED.get(report.served, report.served)}{_encoder(report)}"


def _encoder(report: Report) -> str:
    if report.encoder_steps is None:
        return ""
    name = f", {report.encoder}," if report.encoder else ""
    return f"; its sentence encoder{name} is {'tuned' if report.encoder_steps else 'not tuned'}"


def _quality(report: Report) -> Iterator[str | Text]:
    scores = [(name, score) for name, score in (("plain (ICL)", report.icl), ("what answers", report.tuned)) if score]
    if not scores:
        return
    where = {"folds": "examples held out in turn", "validation_examples": "validation examples"}
    of = where.get(report.measured_on or "", str(report.measured_on))
    yield f"Quality on {scores[0][1].n} {of}, with 95% intervals"
    rows = [[label, *(_figure(score, field, share) for _, score in scores)] for label, field, share in _FIGURES]
    yield table(["", *(name for name, _ in scores)], rows, right=range(1, len(scores) + 1))
    if chances := [f"{score.chance_ece:.3f}" for _, score in scores if score.chance_ece]:
        yield f"(An ECE of {' and '.join(chances)} is what as many examples show by chance.)"
    if report.difference:
        gain, (low, high) = report.difference.accuracy, report.difference.accuracy_ci95
        yield f"Difference, on the same examples: {gain:+.1%} accuracy (95%: {low:+.1%} to {high:+.1%})"


def _figure(score: Score, field: str, share: bool) -> str:
    value: float = getattr(score, field)
    interval: Interval = getattr(score, f"{field}_ci95")
    form = "{:.1%}" if share else "{:.3f}"
    return f"{form.format(value)} ({form.format(interval[0])} to {form.format(interval[1])})"


def _by_label(report: Report) -> Iterator[str | Text]:
    if not report.per_label:
        return
    measured = [item for item in report.per_label.items() if item[1].n]
    worst = sorted(measured, key=lambda item: item[1].f1 or 0.0)[:_MOST_ROWS]
    rows = [(clipped(name, 40), *map(_share, (one.precision, one.recall, one.f1)), one.n) for name, one in worst]
    yield table(["label", "precision", "recall", "F1", "examples"], rows, right=(1, 2, 3, 4))
    if len(measured) > len(worst):
        yield f"These are the {len(worst)} labels with the lowest F1 of {len(measured)} that were measured."


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _confusions(report: Report, labels: Sequence[str]) -> Iterator[str | Text]:
    matrix = report.confusion_matrix
    if not matrix:
        return
    names = [clipped(label, 24) for label in labels]
    if len(labels) <= _MOST_LABELS_OF_A_MATRIX:
        rows = [(name, *(count or "·" for count in row)) for name, row in zip(names, matrix, strict=True)]
        heads = ["true label, predicted as →", *(str(index) for index in range(1, len(labels) + 1))]
        numbered = [(f"{index} {row[0]}", *row[1:]) for index, row in enumerate(rows, 1)]
        yield table(heads, numbered, right=range(1, len(labels) + 1))
        return
    pairs = [(count, true, predicted) for true, row in enumerate(matrix) for predicted, count in enumerate(row)
             if count and true != predicted]  # fmt: skip
    for count, true, predicted in sorted(pairs, reverse=True)[:_MOST_ROWS]:
        yield f"{count} of {names[true]!r} predicted as {names[predicted]!r}"


def _suspects(report: Report, located: Located) -> Iterator[str | Text]:
    if report.suspect_examples:
        yield "Look at these examples again; what was held out says that their labels are others:"
        for one in report.suspect_examples[:_MOST_ROWS]:
            yield _below(f"{located(one.param)} → {one.prediction!r} ({one.prediction_probability:.0%})")
    if report.harmful_examples:
        yield "Without these examples the others are predicted better:"
        for harmful in report.harmful_examples[:_MOST_ROWS]:
            yield _below(f"{located(harmful.param)} ({harmful.gain:.3f} nats)")


def _below(line: str) -> Text:
    return Text(f"  {clipped(line, _LONGEST_LINE)}")


def _thresholds(report: Report) -> Iterator[str | Text]:
    if not report.thresholds:
        return
    rows = [(f"{100 * one.target_precision:.4g}%", f"{one.min_confidence:.4f}", f"{one.coverage:.0%}",
             f"{one.precision:.1%} ({one.precision_ci95[0]:.1%} to {one.precision_ci95[1]:.1%})")
            for one in report.thresholds]  # fmt: skip
    yield table(["wanted precision", "min_confidence", "answered", "right"], rows, right=(0, 1, 2, 3))


def _learning(report: Report) -> Iterator[str]:
    if len(report.loss_curve) > 1:
        yield f"Loss {report.loss_curve[0]:.3f} {sparkline(report.loss_curve)} {report.loss_curve[-1]:.3f}"


def _notes(report: Report) -> Iterator[str]:
    for note in report.notes:
        yield f"• {note}"


def sparkline(values: Sequence[float]) -> str:
    """A curve as a row of bars."""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)
