"""The command ``keys store``: keys in the store itself, without the service, for when no key is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from app.access.secrets import hash_of, new_secret
from app.config import Settings
from app.contract.access import ALL_SCOPES, KeyLimits, Scope, TenantId
from app.contract.names import DEFAULT_TENANT
from app.records.access import TenantDeleting
from app.records.connection import StoreUnavailable, connect, new_id
from app.records.store import Records
from app.standalone.embedded import EmbeddedServer

cli = typer.Typer(name="store", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

_TENANT: TypeAdapter[str] = TypeAdapter(TenantId)


def _tenant(value: str) -> str:
    try:
        return _TENANT.validate_python(value)
    except ValidationError:
        raise typer.BadParameter("lower-case letters, digits and hyphens, at most 40") from None


TenantOption = Annotated[str, typer.Option(help="Whose records the key sees.", callback=_tenant)]


@cli.callback()
def _store() -> None:
    """Keys in the store itself, which must run; the service need not."""


@cli.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="What it may do; every scope unless given.")] = None,
    tenant: TenantOption = DEFAULT_TENANT,
) -> None:
    """Make a key and print its secret, which is shown this once."""
    secret, key_id = new_secret(), new_id("key")
    with _records() as records:
        records.access.create_key(key_id, hash_of(secret), tenant, name, scope or ALL_SCOPES, KeyLimits(), None)
        records.of(tenant).audit.append(None, "key.create", key_id)
    typer.echo(secret)


@cli.command("list")
def list_keys() -> None:
    """List the keys of all tenants, newest first: id, tenant, scopes, name."""
    with _records() as records:
        after = None
        while True:
            page = records.access.keys(100, after, None)
            for key in page.data:
                typer.echo("\t".join((key.id, key.tenant, ",".join(key.scopes), key.name)))
            if page.next is None:
                break
            after = page.next


@cli.command()
def delete(key_id: Annotated[str, typer.Argument(help="The id of a key, as `list` shows it.")]) -> None:
    """Revoke a key; gateways notice within a second."""
    with _records() as records:
        tenant = records.access.delete_key(key_id, None)
        if tenant is None:
            raise typer.BadParameter("there is no such key")


@contextmanager
def _records() -> Iterator[Records]:
    settings = Settings()
    url = settings.store_url or EmbeddedServer.store(settings.data_dir).url
    client = connect(url)
    try:
        yield Records(client)
    except StoreUnavailable as error:
        where = "set CONTEXTUNE_STORE_URL, or start it with `contextune up`"
        typer.echo(f"the store does not answer: {where} ({error})", err=True)
        raise typer.Exit(1) from error
    except TenantDeleting as error:
        typer.echo("this tenant is being deleted", err=True)
        raise typer.Exit(1) from error
    finally:
        client.close()
