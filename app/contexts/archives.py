"""Archives of adapters: the zip files that exports write and PEFT's users make.

Finds out which adapter a file holds and hands its contents on. Nothing of what the file says of itself is trusted: its
table of contents, names, sizes and checksums are all checked, and no file is written by a name that it chooses. Knows
not what the tensors are.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, NoReturn, cast

from pydantic import Field, ValidationError

from app.contract.adapters import MAX_ADAPTER_BYTES
from app.contract.messages import Part
from app.contract.names import ErrorCode
from app.contract.texts import ContextName
from app.errors import DomainError
from app.records.files import ArtifactsUnavailable, unavailable

_SUMMARY: Final = "contextune.json"
_TENSORS: Final = "contextune.safetensors"
_PEFT_CONFIG: Final = "adapter_config.json"
_PEFT_TENSORS: Final = "adapter_model.safetensors"
#: The newest format of `contextune.json` that this release reads.
_FORMAT: Final = 1

_PIECE_BYTES: Final = 256 * 1024
#: Files of an archive; two for each prompt and two more are needed.
_FILES: Final = 64
_TEXT_BYTES: Final = 1024 * 1024
#: How many times longer a file may be than it is packed: tensors hardly shrink, texts do.
_RATIO: Final = 100
_PACKINGS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 1
#: What zipfile raises for files that are not what they should be.
_FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class _ContextSummary(Part):
    name: ContextName | None = None


class Summary(Part):
    """What `contextune.json` says of an export, as far as an import needs it."""

    format: int
    model: str = Field(max_length=200)
    sha256: str
    context: _ContextSummary = _ContextSummary()


class Archive:
    """The adapter in a zip file. With a ``summary`` it is one that this service exported, else it is PEFT's.

    ``config`` is PEFT's `adapter_config.json`. Every method raises `DomainError` (``adapter_invalid``) for a file that
    is damaged or made to do harm.
    """

    def __init__(self, zipped: zipfile.ZipFile) -> None:
        self._zipped = zipped
        self._members = {member.filename: member for member in _checked(zipped.infolist())}
        ours = self._folder_of(_SUMMARY)
        folder = self._folder_of(_PEFT_CONFIG) if ours is None else ours
        if folder is None:
            _refuse(f"there is neither {_SUMMARY} nor {_PEFT_CONFIG} in it, or more than one")
        self._tensors = folder + (_PEFT_TENSORS if ours is None else _TENSORS)
        if self._tensors not in self._members:
            _refuse(f"{self._tensors.removeprefix(folder)} is not in it; no other format of tensors is read")
        self.summary = None if ours is None else _summary(self._text(folder + _SUMMARY))
        self.config = self._text(folder + _PEFT_CONFIG) if ours is None else None

    def copy_tensors(self, write: Callable[[bytes], None]) -> None:
        """Hand on the file of the tensors, piece by piece."""
        digest = hashlib.sha256()
        for piece in self._pieces(self._tensors):
            digest.update(piece)
            write(piece)
        if self.summary is not None and digest.hexdigest() != self.summary.sha256:
            _refuse(f"{_TENSORS} is not the file that {_SUMMARY} names")

    def _folder_of(self, name: str) -> str | None:
        """The folder with the one file of this name, with the slash behind it; None where there is none, or several."""
        found = [path.removesuffix(name) for path in self._members if path.rpartition("/")[2] == name]
        return found[0] if len(found) == 1 else None

    def _text(self, path: str) -> str:
        if self._members[path].file_size > _TEXT_BYTES:
            _refuse(f"a JSON file in it has more than {_TEXT_BYTES} bytes")
        try:
            return b"".join(self._pieces(path)).decode()
        except UnicodeDecodeError:
            _refuse("a JSON file in it is not UTF-8")

    def _pieces(self, path: str) -> Iterator[bytes]:
        with _faults_told(), self._zipped.open(self._members[path]) as content:
            while piece := content.read(_PIECE_BYTES):
                yield piece


@contextmanager
def opened(file: IO[bytes]) -> Iterator[Archive]:
    """The archive in an open file. Raises `DomainError` (``adapter_invalid``) and `ArtifactsUnavailable`."""
    with _faults_told():
        zipped = zipfile.ZipFile(cast("IO[bytes]", _Bounded(file)))
    with zipped:
        yield Archive(zipped)


class _Bounded:
    """A file of which little is read at once, whatever a zip file says of the size of its own table of contents."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """At most a piece. Raises `DomainError` where more is asked for and there."""
        with unavailable():
            found = self._file.read(_PIECE_BYTES + 1 if size < 0 else min(size, _PIECE_BYTES + 1))
        if len(found) > _PIECE_BYTES:
            _refuse("its table of contents is too long")
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _faults_told() -> Iterator[None]:
    try:
        yield
    except (DomainError, ArtifactsUnavailable):
        raise
    except _FAULTS:
        raise _invalid("it is no zip file, or damaged") from None


def _checked(members: list[zipfile.ZipInfo]) -> Iterator[zipfile.ZipInfo]:
    """The files of an archive, without folders."""
    if len(members) > _FILES:
        _refuse(f"it has more than {_FILES} files")
    if len({member.filename for member in members}) < len(members):
        _refuse("it has two files of the same name")
    if sum(member.file_size for member in members) > MAX_ADAPTER_BYTES:
        _refuse(f"its files have more than {MAX_ADAPTER_BYTES} bytes")
    for member in members:
        _check(member)
        if not member.is_dir():
            yield member


def _check(member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    parts = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        _refuse("it has a file whose name leads elsewhere")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        _refuse("it has a link, or another file that is none")
    if member.flag_bits & _ENCRYPTED or member.compress_type not in _PACKINGS:
        _refuse("its files must be stored or deflated, and not encrypted")
    if member.file_size > _RATIO * member.compress_size + _PIECE_BYTES:
        _refuse("it has a file that unpacks to far more than it is")


def _summary(text: str) -> Summary:
    try:
        summary = Summary.model_validate_json(text)
    except (ValidationError, RecursionError):
        _refuse(f"{_SUMMARY} is not what an export writes")
    if summary.format > _FORMAT:
        detail = "the adapter was exported by a newer release of Contextune, in a format that this one does not know"
        raise DomainError(ErrorCode.FORMAT_UNSUPPORTED, detail, "/file")
    return summary


def _refuse(why: str) -> NoReturn:
    raise _invalid(why)


def _invalid(why: str) -> DomainError:
    return DomainError(ErrorCode.ADAPTER_INVALID, f"this is not the zip file of an adapter: {why}", "/file")
