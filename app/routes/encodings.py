"""Content encodings of bodies: gzip and zstd, decompressed piece by piece and never more at once than is asked for."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from typing import Any, Final

from app.contract.names import ErrorCode
from app.errors import DomainError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: The largest window of zstd, as a power of two: what RFC 9659 lets a sender use, and memory that a body may cost.
_WINDOW_LOG: Final = 23
_BLOCK_BYTES: Final = 256 * 1024

#: What decoders raise for bytes that are not what their encoding says.
DECODING_ERRORS: Final = (zlib.error, zstd.ZstdError, EOFError)


def decoder_of(encoding: str) -> Any:
    """A decoder for the encoding that a header names, None where there is none. Raises `DomainError`."""
    name = encoding.strip().lower()
    if name in ("identity", ""):
        return None
    if name in ("gzip", "x-gzip"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    if name == "zstd":
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
    raise DomainError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "the content encoding must be gzip, zstd, or none")


def not_decodable() -> DomainError:
    """The failure of a body that is not what its encoding says."""
    return DomainError(ErrorCode.MALFORMED_REQUEST, "the body is not what its content encoding says")


def check_complete(decoder: Any) -> None:
    """Raise `DomainError` unless a compressed body is complete, with nothing behind it."""
    if decoder and (decoder.unused_data or not decoder.eof):
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "the compressed body is incomplete, or something follows it")


def decoded(decoder: Any, data: bytes) -> Iterator[bytes]:
    """What comes of a piece of a body, in blocks of bounded size. Raises `DomainError`."""
    if decoder is None:
        yield data
        return
    if not data:
        return
    try:
        block = decoder.decompress(data, _BLOCK_BYTES)
        while block or getattr(decoder, "unconsumed_tail", b""):
            yield block
            more = not getattr(decoder, "needs_input", True) and not decoder.eof
            rest = getattr(decoder, "unconsumed_tail", b"")
            block = decoder.decompress(rest, _BLOCK_BYTES) if rest or more else b""
    except DECODING_ERRORS:
        raise not_decodable() from None
