"""What travels over the bus when an adapter leaves the service or comes in. The files lie among the artifacts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, JsonValue

from app.contract.messages import Failure, Message, Part, Request
from app.contract.names import EXPORT_TASK, IMPORT_TASK
from app.contract.tuning import Template

#: Most bytes of the file of an adapter that is taken, and of what is packed in it.
MAX_ADAPTER_BYTES: Final = 512 * 1024 * 1024

#: Where a file lies among the artifacts that a request has written, or is to have written.
UploadAddress = Annotated[str, Field(pattern=r"^uploads/[a-z0-9_]+$")]


class ExportRequest(Request):
    """Payload of the export task: write the artifact in ``form`` to the address ``target``.

    ``context`` is what the export says of the context, as JSON.
    """

    task: ClassVar[str] = EXPORT_TASK

    artifact: str
    form: Literal["adapter", "embeddings"]
    target: UploadAddress
    context: dict[str, JsonValue]
    request_id: str | None = None


class ExportReply(Message):
    """``size`` bytes were written, or why not."""

    id: str
    size: int = 0
    failure: Failure | None = None


class ImportRequest(Request):
    """Payload of the import task: check an adapter and write the artifact that it makes to the address ``target``.

    ``tensors`` is the address of its safetensors file. With ``config``, the text of PEFT's ``adapter_config.json``, it
    is PEFT's, and ``labels`` and ``template`` say how it is asked; without, it is one that this service exported.
    """

    task: ClassVar[str] = IMPORT_TASK

    tensors: UploadAddress
    target: UploadAddress
    config: str | None = None
    labels: tuple[str, ...] = ()
    template: Template = Template()
    request_id: str | None = None


class Imported(Part):
    """An artifact that was written: its bytes and their SHA-256, its labels, and the tokens of all its prompts.

    ``encoder`` is the SHA-256 of the files of the sentence encoder that it needs, None where it needs none.
    """

    size: int
    sha256: str
    labels: tuple[str, ...]
    tokens: int
    encoder: str | None = None


class ImportReply(Message):
    """Answer to an `ImportRequest`: exactly one of ``imported`` and ``failure``."""

    id: str
    imported: Imported | None = None
    failure: Failure | None = None
