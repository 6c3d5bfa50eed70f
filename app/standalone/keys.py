"""The command ``keys store``: keys in the store itself, without the service, for when no key is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from contextune.cli.output import Json, Output
from contextune.errors import ContextuneError
from pydantic import TypeAdapter, ValidationError

from app.access.secrets import hash_of, new_secret
from app.config import Settings, wrong_settings
from app.contract.access import ALL_SCOPES, Key, KeyLimits, Scope, TenantId
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
    as_json: Json = False,
) -> None:
    """Make a key and print its secret, which is shown this once."""
    secret, key_id = new_secret(), new_id("key")
    with _records() as records:
        records.access.create_key(key_id, hash_of(secret), tenant, name, scope or ALL_SCOPES, KeyLimits(), None)
        records.of(tenant).audit.append(None, "key.create", key_id)
    Output(as_json).result({"id": key_id, "secret": secret}, lambda console: console.print(secret))


@cli.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the keys of all tenants, newest first: id, tenant, scopes, name."""
    with _records() as records:
        keys = list(_keys(records))
    Output(as_json).result(keys, lambda _: typer.echo("".join(map(_line, keys)), nl=False))


def _keys(records: Records) -> Iterator[Key]:
    page = records.access.keys(100, None, None)
    yield from page.data
    while page.next is not None:
        page = records.access.keys(100, page.next, None)
        yield from page.data


def _line(key: Key) -> str:
    return "\t".join((key.id, key.tenant, ",".join(key.scopes), key.name)) + "\n"


@cli.command()
def delete(
    key_id: Annotated[str, typer.Argument(help="The id of a key, as `list` shows it.")], as_json: Json = False
) -> None:
    """Revoke a key; gateways notice within a second."""
    with _records() as records:
        if records.access.delete_key(key_id, None) is None:
            raise ContextuneError("there is no such key")
    Output(as_json).result({"id": key_id, "deleted": True}, lambda _: None)


@contextmanager
def _records() -> Iterator[Records]:
    try:
        settings = Settings()
    except ValidationError as error:
        raise ContextuneError("; ".join(wrong_settings(error))) from None
    client = connect(settings.store_url or EmbeddedServer.store(settings.data_dir).url)
    try:
        yield Records(client)
    except StoreUnavailable as error:
        where = "set CONTEXTUNE_STORE_URL, or start it with `contextune up`"
        raise ContextuneError(f"the store does not answer: {where} ({error})") from error
    except TenantDeleting as error:
        raise ContextuneError("this tenant is being deleted, or was in the last ten minutes") from error
    finally:
        client.close()
