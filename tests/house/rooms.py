"""The import rules as allow-lists: a contract of import-linter that names for each room what it may import.

A room is a module or package directly below one of ``houses``. What the lists do not name is refused: a room without a
line, an import of a room that the importer's line leaves out, and a third-party package that its house does not use.
The lists stand in ``pyproject.toml``; this module knows none of the rooms.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class RoomsContract(Contract):
    """What each room may import.

    ``rooms`` has a line ``room: other rooms`` for each room, ``third_party`` a line ``house: packages`` for each house
    (the longest house that holds a module counts). A house may stand in another one's list: its rooms are meant.
    """

    type_name = "rooms"

    houses = fields.ListField(subfield=fields.StringField())
    rooms = fields.ListField(subfield=fields.StringField())
    third_party = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 - import-linter's signature
        """Compare every import of the houses with the lists."""
        faults = [*self._unlisted_rooms(graph), *self._vanished_rooms(graph), *self._refused_imports(graph)]
        return ContractCheck(kept=not faults, metadata={"faults": faults})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print a line for each fault."""
        for fault in check.metadata["faults"]:
            output.print_error(f"- {fault}", bold=False)

    def _unlisted_rooms(self, graph: ImportGraph) -> Iterator[str]:
        houses = set(self._houses)
        for room in sorted({room for house in houses for room in graph.find_children(house)} - houses):
            if room not in self._allowed:
                yield f"{room} is a new room: say in pyproject.toml what it may import"

    def _vanished_rooms(self, graph: ImportGraph) -> Iterator[str]:
        named = {*self._allowed, *(room for others in self._allowed.values() for room in others)}
        for room in sorted(named - graph.modules):
            yield f"{room} is listed in pyproject.toml, but there is no such room"

    def _refused_imports(self, graph: ImportGraph) -> Iterator[str]:
        roots = {house.split(".")[0] for house in self._houses}
        for importer in sorted(graph.modules):
            if importer.split(".")[0] not in roots:
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                inside = imported.split(".")[0] in roots
                if not (self._may_import_room(importer, imported) if inside else self._may_use(importer, imported)):
                    lines = ", ".join(
                        str(detail["line_number"])
                        for detail in graph.get_import_details(importer=importer, imported=imported)
                    )
                    yield f"{importer} must not import {imported} (line {lines})"

    def _may_import_room(self, importer: str, imported: str) -> bool:
        room = _longest(importer, self._allowed)
        if room is None:  # a house's own __init__, which has no room, or a room without a line
            return False
        return _longest(imported, (room, *self._allowed[room])) is not None

    def _may_use(self, importer: str, imported: str) -> bool:
        house = _longest(importer, self._packages)
        package = imported.split(".", maxsplit=1)[0]
        return package in sys.stdlib_module_names or (house is not None and package in self._packages[house])

    @property
    def _houses(self) -> list[str]:
        return list(self._field("houses"))

    @property
    def _allowed(self) -> dict[str, tuple[str, ...]]:
        return _table(self._field("rooms"))

    @property
    def _packages(self) -> dict[str, tuple[str, ...]]:
        return _table(self._field("third_party"))

    def _field(self, name: str) -> Any:
        return getattr(self, name)


def _table(lines: list[str]) -> dict[str, tuple[str, ...]]:
    """``"room: others"`` by room."""
    parts = (line.partition(":") for line in lines)
    return {room.strip(): tuple(others.split()) for room, _, others in parts}


def _longest(module: str, names: Any) -> str | None:
    """The longest of ``names`` that is the module or a package that holds it."""
    found = [name for name in names if module == name or module.startswith(f"{name}.")]
    return max(found, key=len) if found else None
