"""The command ``doctor`` of the server: what is wrong with this installation and with the service that runs."""

from __future__ import annotations

from collections.abc import Iterator

import pydantic
import typer
from contextune.cli.doctor import ONCE, tell
from contextune.cli.examination import Finding, examine_client, examine_service
from contextune.cli.output import Json
from contextune.cli.session import Target

from app.admin.doctor import examine, own_address
from app.config import Settings, wrong_settings
from app.standalone.embedded import EmbeddedServer

cli = typer.Typer(name="doctor", add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Say what is wrong with this installation and how to mend it; the service may run or not."""
    tell(_findings(Target.of(context)), as_json)


def _findings(target: Target) -> Iterator[Finding]:
    try:
        settings = Settings()
    except pydantic.ValidationError as error:
        yield from (Finding("settings", "wrong", line, "see docs/configuration.md") for line in wrong_settings(error))
        return
    store = settings.store_url or EmbeddedServer.store(settings.data_dir).url
    bus = settings.bus_url or EmbeddedServer.bus(settings.data_dir).url
    yield from examine(settings, store, bus)
    yield from _from_outside(target, settings)


def _from_outside(target: Target, settings: Settings) -> Iterator[Finding]:
    """The service as clients see it: the one that is named, else this installation's own where it runs."""
    named = target.url_from is not None
    if not named:
        own = own_address(settings)
        if own is None:
            return
        if own != target.url:
            found = f"commands here ask {target.url}, while this installation's service is at {own}"
            yield Finding("address", "warning", found, f"set CONTEXTUNE_URL={own}")
        target = target.at(own, "this installation's")
    yield from examine_client(target)
    with target.connect(retries=ONCE) as client:
        yield from examine_service(client, with_key=named or target.key is not None)
