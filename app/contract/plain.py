"""Plain contexts: what a request brings to be classified with, in place of a tuned context. They have no record."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Final

from pydantic import ConfigDict

from app.contract.payload import Payload
from app.contract.tuning import Template

#: What the addresses of plain contexts begin with; those of artifacts are hexadecimal.
PLAIN_ADDRESS: Final = "plain-"


class PlainLabel(Payload):
    """A label, and in ``description`` what the texts that have it are about."""

    model_config = ConfigDict(extra="ignore")

    name: str
    description: str | None = None


class PlainContext(Payload):
    """Examples, (text, label) each, labels, and instructions that stand before them.

    A label without an example is shown by its description, or by its name.
    """

    model_config = ConfigDict(extra="ignore")

    instructions: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    labels: tuple[PlainLabel, ...]
    template: Template = Template()

    @cached_property
    def written(self) -> bytes:
        """The whole as JSON. Raises ValueError for lone surrogates."""
        return self.model_dump_json().encode()

    @cached_property
    def address(self) -> str:
        """What names it where a tuned context has the address of its artifact: a hash of the whole."""
        return PLAIN_ADDRESS + hashlib.sha256(self.written).hexdigest()

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        """What stands in the context, (text, label) each."""
        exemplified = {label for _, label in self.examples}
        rest = ((label.description or label.name, label.name) for label in self.labels)
        return (*(pair for pair in rest if pair[1] not in exemplified), *self.examples)
