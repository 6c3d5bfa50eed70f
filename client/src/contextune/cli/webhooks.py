"""``contextune webhooks``."""

from __future__ import annotations

from typing import Annotated

import typer

from contextune.cli.output import Json, Output, plain, table
from contextune.cli.pages import when
from contextune.cli.session import connect

webhooks = typer.Typer(help="Have addresses told of the ends of jobs.", no_args_is_help=True)


@webhooks.command()
def create(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="The address that events are sent to.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="job.succeeded, job.failed, job.cancelled; may be given again; all unless given."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a webhook. The secret of its signatures is printed once and cannot be shown again."""
    output = Output(as_json)
    with connect(context) as client:
        made = client.webhooks.create(url, events=event)
    secret = made.secret.get_secret_value() if made.secret else None
    output.result(
        {**plain(made), "secret": secret},
        lambda console: console.print(secret or "(made before; not shown again)"),
    )
    output.note("Keep it: it is not shown again.")


@webhooks.command(name="list")
def list_webhooks(context: typer.Context, as_json: Json = False) -> None:
    """List webhooks, without their secrets, newest first."""
    with connect(context) as client:
        found = list(client.webhooks.list())
    rows = [(one.id, one.url, " ".join(one.events), when(one.created_at)) for one in found]
    Output(as_json).result(found, lambda console: console.print(table(["id", "url", "events", "created"], rows)))


@webhooks.command()
def delete(
    context: typer.Context,
    webhook_id: Annotated[str, typer.Argument(help="The webhook's id.")],
    as_json: Json = False,
) -> None:
    """Delete a webhook; what waits for it is not sent."""
    with connect(context) as client:
        client.webhooks.delete(webhook_id)
    Output(as_json).result({"id": webhook_id, "deleted": True}, lambda _: None)
