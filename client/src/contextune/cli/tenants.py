"""``contextune tenants``."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.console import Console

from contextune.cli.output import Json, Output, table
from contextune.cli.pages import fields_table, when
from contextune.cli.session import connect
from contextune.models.access import Limits, Tenant

tenants = typer.Typer(
    help="Look at tenants, limit and delete them; `keys create NAME --tenant TENANT` makes a new tenant.",
    no_args_is_help=True,
)

#: What removes a limit.
_NO_LIMIT: Final = "none"

Id = Annotated[str, typer.Argument(help="The tenant's id.")]


@tenants.command(name="list")
def list_tenants(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List tenants, newest first."""
    with connect(context) as client:
        found = list(client.tenants.list(limit=limit))
    rows = [(one.id, one.status, *_limits(one).values(), when(one.created_at)) for one in found]
    heads = ["id", "status", *_limits(None), "created"]
    Output(as_json).result(found, lambda console: console.print(table(heads, rows, right=(2, 3, 4))))


@tenants.command()
def show(context: typer.Context, tenant: Id, as_json: Json = False) -> None:
    """Show a tenant and its limits."""
    with connect(context) as client:
        found = client.tenants.get(tenant)
    Output(as_json).result(found, lambda console: _print_tenant(console, found))


@tenants.command()
def limit(
    context: typer.Context,
    tenant: Id,
    queued_jobs: Annotated[str | None, typer.Option(help="Queued jobs at most; none removes the limit.")] = None,
    contexts: Annotated[str | None, typer.Option(help="Contexts at most; none removes the limit.")] = None,
    artifact_bytes: Annotated[str | None, typer.Option(help="Bytes at most; none removes the limit.")] = None,
    as_json: Json = False,
) -> None:
    """Set limits of a tenant; those that are not given stay."""
    given = {"queued_jobs": queued_jobs, "contexts": contexts, "artifact_bytes": artifact_bytes}
    changes = {name: _bound(name, value) for name, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("name a limit: --queued-jobs, --contexts or --artifact-bytes")
    with connect(context) as client:
        found = client.tenants.update(tenant, limits=changes)
    Output(as_json).result(found, lambda console: _print_tenant(console, found))


@tenants.command()
def delete(context: typer.Context, tenant: Id, as_json: Json = False) -> None:
    """Revoke the keys of a tenant at once, and remove all that it owns, for good."""
    output = Output(as_json)
    with connect(context) as client:
        client.tenants.delete(tenant)
    output.result({"id": tenant, "status": "deleting"}, lambda _: None)
    output.note(f"Its keys are revoked. `contextune tenants show {tenant}` finds it until all else is removed.")


def _bound(name: str, written: str) -> int | None:
    if written == _NO_LIMIT:
        return None
    if not written.isdecimal() or int(written) < 1:
        option = f"--{name.replace('_', '-')}"
        raise typer.BadParameter(f"{written!r} is neither a number from 1 on nor {_NO_LIMIT}", param_hint=option)
    return int(written)


def _limits(tenant: Tenant | None) -> dict[str, int | None]:
    """What a tenant may have at once, by what people call it."""
    limits = (tenant and tenant.limits) or Limits()
    return {
        "most queued jobs": limits.queued_jobs,
        "most contexts": limits.contexts,
        "most bytes": limits.artifact_bytes,
    }


def _print_tenant(console: Console, tenant: Tenant) -> None:
    fields = [("tenant", tenant.id), ("status", tenant.status), ("created", when(tenant.created_at))]
    console.print(fields_table([*fields, *_limits(tenant).items()]))
