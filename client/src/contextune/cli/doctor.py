"""``contextune doctor`` of the client alone, and how findings are told; the server's has more of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final

import typer
from rich.console import Console

from contextune.cli import failures
from contextune.cli.examination import Finding, State, examine_client, examine_service
from contextune.cli.output import Json, Output, envelope, printable
from contextune.cli.session import Target
from contextune.protocol.retry import RetryPolicy

_MARKS: Final[dict[State, str]] = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}
#: The service is asked once: what does not answer now is a finding.
ONCE: Final = RetryPolicy(attempts=1)


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Say what is wrong with this client and the service that it names, and how to mend it."""
    target = Target.of(context)
    with target.connect(retries=ONCE) as client:
        found = [*examine_client(target), *examine_service(client), _scope()]
    tell(found, as_json)


def _scope() -> Finding:
    where = "run `contextune doctor` where contextune-server is installed to see disk, servers, models and artifacts"
    return Finding("scope", "ok", f"this is the service as seen from here; {where}")


def tell(found: Iterable[Finding], as_json: bool) -> None:
    """Print the findings, and end with the status 1 if something is wrong. The envelope has them then, too."""
    findings = list(found)
    wrong = [finding for finding in findings if finding.state == "wrong"]
    data = {"findings": [asdict(finding) for finding in findings]}
    if as_json and wrong:
        message = f"wrong: {', '.join(dict.fromkeys(finding.check for finding in wrong))}"
        error = {"code": "unhealthy", "message": message, "exit_status": failures.FAILED}
        envelope(ok=False, data=data, error=error)
    else:
        Output(as_json).result(data, lambda console: _print(console, findings))
    if wrong:
        raise typer.Exit(failures.FAILED)


def _print(console: Console, findings: Sequence[Finding]) -> None:
    for finding in findings:
        console.print(printable(f"{_MARKS[finding.state]}  {finding.check}: {finding.found}"))
        if finding.mend:
            console.print(printable(f"         {finding.mend}"))
