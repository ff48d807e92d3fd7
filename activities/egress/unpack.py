"""Undo the compression of a body, never making more bytes than asked for."""

import zlib
from collections.abc import Sequence
from typing import Protocol

_GZIP = 16 + zlib.MAX_WBITS


class Damaged(Exception):
    """The bytes are not what the encoding says."""


class Unpacker(Protocol):
    """Takes what came over the wire and gives decoded bytes."""

    def feed(self, data: bytes, room: int) -> bytes:
        """Decoded bytes, at most `room`; whatever would come after them is dropped.

        Raises:
            Damaged: the data is not in the encoding.
        """
        ...

    @property
    def unfinished(self) -> bool:
        """True if the encoding says that more must come."""
        ...


class Plain:
    """No compression."""

    unfinished = False

    def feed(self, data: bytes, room: int) -> bytes:
        return data[:room]


class Zip:
    """gzip (several members too) or deflate (with the zlib header, or raw as some servers send it)."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inflate = zlib.decompressobj(wbits)
        self._started = False

    @property
    def unfinished(self) -> bool:
        return self._started and not self._inflate.eof

    def feed(self, data: bytes, room: int) -> bytes:
        out = bytearray()
        while data and len(out) < room:
            if self._inflate.eof:
                if self._wbits != _GZIP or not data.strip(b"\0"):
                    break
                self._inflate = zlib.decompressobj(self._wbits)
            out += self._step(data, room - len(out))
            data = self._inflate.unused_data
        return bytes(out)

    def _step(self, data: bytes, room: int) -> bytes:
        first, self._started = not self._started, True
        try:
            return self._inflate.decompress(data, room)
        except zlib.error as error:
            if not first or self._wbits != zlib.MAX_WBITS:
                raise Damaged from error
        self._wbits = -zlib.MAX_WBITS
        self._inflate = zlib.decompressobj(self._wbits)
        return self._step(data, room)


def unpacker(codings: Sequence[str]) -> Unpacker | None:
    """The unpacker for the Content-Encoding headers; None for one that was not asked for, or several at once.

    Packed twice is refused: what the outer one makes of little is itself a bomb for the inner one.
    """
    match ",".join(codings).strip().lower():
        case "" | "identity":
            return Plain()
        case "gzip" | "x-gzip":
            return Zip(_GZIP)
        case "deflate":
            return Zip(zlib.MAX_WBITS)
        case _:
            return None
