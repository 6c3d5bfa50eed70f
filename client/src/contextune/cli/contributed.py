"""Commands that other distributions add by entry points, the server's above all.

An entry point of `GROUP` is named as its command, with a dot before the last word where that command belongs to a
group (``keys.store``); its object is a ``typer.Typer``. It is loaded when the command is invoked, never before: one
that cannot be loaded breaks neither another command nor a help page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import typer

from contextune.errors import ContextuneError

GROUP: Final = "contextune.commands"

#: What the server's own commands do, for the help page, which loads none of them.
SERVER_COMMANDS: Final[Mapping[str, str]] = {
    "up": "Run the whole service on this machine until Ctrl-C.",
    "doctor": "Say what is wrong with this installation and how to mend it.",
    "backup": "Write every record and every file of this installation to one file.",
    "restore": "Restore a backup into an empty installation.",
    "keys.store": "Keys in the store itself, with no service running: for when all keys are lost.",
}
_UNREAD: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_commands(
    application: typer.Typer, groups: Mapping[str, typer.Typer], instead: Mapping[str, Callable[..., None]]
) -> None:
    """Add every contributed command to ``application``, or to the group of ``groups`` that its name begins with.

    A command of the server that is not installed is the client's own of ``instead``; else it is hidden, and says what
    to install when it is invoked.
    """
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in instead.keys() - installed.keys():
        application.command(name)(instead[name])
    for name in (SERVER_COMMANDS.keys() - instead.keys()) | installed.keys():
        group, _, command = name.rpartition(".")
        parent = groups.get(group, application) if group else application
        entry = installed.get(name)
        parent.command(
            command,
            help=_summary(name, entry),
            rich_help_panel="Server" if entry else None,
            hidden=entry is None,
            context_settings=_UNREAD,
        )(_invoke(name, entry))


def _summary(name: str, entry: EntryPoint | None) -> str:
    if name in SERVER_COMMANDS:
        return SERVER_COMMANDS[name]
    return f"Added by {_distribution(entry)}." if entry else ""


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "another distribution"


def _invoke(name: str, entry: EntryPoint | None) -> Callable[[typer.Context], None]:
    def invoke(context: typer.Context) -> None:
        if entry is None:
            raise ContextuneError(f"`{context.command_path}` comes with the server: pip install contextune-server")
        command = typer.main.get_command(_load(name, entry))
        status = command.main(
            args=context.args,
            prog_name=context.command_path,
            obj=context.find_root().obj,
            standalone_mode="--json" not in context.args,
        )
        raise typer.Exit(status or 0)

    return invoke


def _load(name: str, entry: EntryPoint) -> typer.Typer:
    try:
        loaded = entry.load()
        if not isinstance(loaded, typer.Typer):
            raise TypeError(f"{entry.value} is no typer.Typer")
    except Exception as error:  # whatever is wrong in there, the user is told which part it is
        text = f"the command {name} of {_distribution(entry)} cannot be loaded: {error!r}"
        raise ContextuneError(text) from error
    return loaded
