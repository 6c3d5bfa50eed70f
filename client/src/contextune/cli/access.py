"""``contextune keys``, ``models``, ``usage`` and ``audit``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from contextune.cli.output import Json, Output, plain, table
from contextune.cli.pages import when
from contextune.cli.session import connect
from contextune.models.access import Limits

keys = typer.Typer(help="Make, list and revoke keys of the service.", no_args_is_help=True)


@keys.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option(help="read, classify, contexts:write, admin, operator; may be repeated.")],
    tenant: Annotated[str | None, typer.Option(help="The tenant, where it is not your own.")] = None,
    expires_at: Annotated[datetime | None, typer.Option(help="When the key stops being valid.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute at most.")] = None,
    inputs_per_minute: Annotated[int | None, typer.Option(min=1, help="Texts to classify a minute at most.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is printed once and cannot be shown again."""
    output = Output(as_json)
    expiry = expires_at.astimezone() if expires_at else None
    limits = Limits(requests_per_minute=requests_per_minute, inputs_per_minute=inputs_per_minute)
    with connect(context) as client:
        made = client.keys.create(name, scope, tenant=tenant, expires_at=expiry, limits=limits)
    secret = made.key.get_secret_value() if made.key else None
    output.result(
        {**plain(made), "key": secret}, lambda console: console.print(secret or "(made before; not shown again)")
    )
    output.note("Keep it: it is not shown again.")


@keys.command(name="list")
def list_keys(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant; for operators.")] = None,
    as_json: Json = False,
) -> None:
    """List keys, without their secrets: an operator's of all tenants."""
    with connect(context) as client:
        found = list(client.keys.list(tenant=tenant))
    rows = [(one.id, one.name, " ".join(one.scopes), one.tenant, when(one.expires_at), when(one.last_used_at))
            for one in found]  # fmt: skip
    heads = ["id", "name", "scopes", "tenant", "expires", "last used"]
    Output(as_json).result(found, lambda console: console.print(table(heads, rows)))


@keys.command()
def delete(
    context: typer.Context, key_id: Annotated[str, typer.Argument(help="The key's id.")], as_json: Json = False
) -> None:
    """Revoke a key."""
    with connect(context) as client:
        client.keys.delete(key_id)
    Output(as_json).result({"id": key_id, "deleted": True}, lambda _: None)


def models(context: typer.Context, as_json: Json = False) -> None:
    """List the base models (the first is the default), the names that stand for them, and the contexts by name."""
    with connect(context) as client:
        found = list(client.models.list())
    rows = [(one.id, one.kind.replace("_", " "), f"{one.parameters:,}" if one.parameters else "", one.context_length,
             one.workers, one.device) for one in found]  # fmt: skip
    heads = ["id", "kind", "parameters", "context length", "workers", "device"]
    Output(as_json).result(found, lambda console: console.print(table(heads, rows, right=(2, 3, 4))))


def usage(context: typer.Context, as_json: Json = False) -> None:
    """Show inputs and tokens by day."""
    with connect(context) as client:
        found = client.usage()
    rows = [(day.date, f"{day.inputs:,}", f"{day.input_tokens:,}") for day in found.data]
    Output(as_json).result(found, lambda console: console.print(table(["day", "inputs", "tokens"], rows, right=(1, 2))))


def audit(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the changes that were asked for, newest first: when, by which key, of which object, how it ended."""
    with connect(context) as client:
        found = list(client.audit(limit=limit))
    rows = [(when(one.created_at), one.action, one.object_id, one.outcome, one.status, one.key_name or one.key_id)
            for one in found]  # fmt: skip
    heads = ["time", "action", "object", "outcome", "status", "key"]
    Output(as_json).result(found, lambda console: console.print(table(heads, rows)))
