"""Undo the compression of a body, never making more bytes than asked for."""

import zlib
from collections.abc import Sequence
from typing import Protocol

_GZIP = 16 + zlib.MAX_WBITS


_MEMBER = b"\x1f\x8b"
_STEP = 1024
"""Packed bytes that are undone at once: what damaged data costs of the sound data before it."""


class Unpacker(Protocol):
    """Takes what came over the wire and gives decoded bytes."""

    def feed(self, data: bytes, room: int) -> bytes:
        """Decoded bytes, at most `room`; whatever would come after them is dropped. Nothing once damaged."""
        ...

    @property
    def damaged(self) -> bool:
        """True once data came that is not in the encoding."""
        ...

    @property
    def unfinished(self) -> bool:
        """True if the encoding says that more must come."""
        ...


class Plain:
    """No compression."""

    damaged = False
    unfinished = False

    def feed(self, data: bytes, room: int) -> bytes:
        return data[:room]


class Zip:
    """gzip (several members too) or deflate (with the zlib header, or raw as some servers send it)."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inflate = zlib.decompressobj(wbits)
        self._started = False
        self._ended = False
        self.damaged = False

    @property
    def unfinished(self) -> bool:
        return self._started and not self._inflate.eof

    def feed(self, data: bytes, room: int) -> bytes:
        out = bytearray()
        for start in range(0, len(data), _STEP):
            step = data[start : start + _STEP]
            while step and len(out) < room and not (self._ended or self.damaged):
                if self._inflate.eof:
                    step = self._next_member(step)
                    continue
                out += self._undo(step, room - len(out))
                step = self._inflate.unused_data
        return bytes(out)

    def _next_member(self, data: bytes) -> bytes:
        """What is left to undo after the end of a member. Padding and junk behind the last one are no damage."""
        if self._wbits != _GZIP or not _MEMBER.startswith(data[:2]):
            self._ended = True
            return b""
        self._inflate = zlib.decompressobj(self._wbits)
        return data

    def _undo(self, data: bytes, room: int) -> bytes:
        first, self._started = not self._started, True
        try:
            return self._inflate.decompress(data, room)
        except zlib.error:
            if not first or self._wbits != zlib.MAX_WBITS:
                self.damaged = True
                return b""
        self._wbits = -zlib.MAX_WBITS
        self._inflate = zlib.decompressobj(self._wbits)
        return self._undo(data, room)


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
