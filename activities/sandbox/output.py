"""Output of unknown size and encoding, kept within a limit: the beginning and the end survive, the middle goes."""

from activities.sandbox.base import OUTPUT_LIMIT

MARKER_ROOM = 128
"""Bytes set aside for the sentence that replaces the middle."""

_UNPRINTABLE = {0: "\ufffd", **dict.fromkeys(range(0xDC80, 0xDD00), "\ufffd")}
"""NUL, which databases refuse, and what `surrogateescape` makes of bytes that are no UTF-8."""


class Captured:
    """Collects one stream. Memory stays at about the limit, whatever is fed."""

    def __init__(self, limit: int = OUTPUT_LIMIT) -> None:
        self._limit = limit
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0
        """Bytes fed so far."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.total += len(data)
        room = self._limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            if len(self._tail) > 2 * self._limit:
                del self._tail[: -self._limit]

    @property
    def full(self) -> bool:
        """True once more was fed than can be kept."""
        return self.total > self._limit

    def text(self) -> tuple[str, bool]:
        """At most `limit` bytes of UTF-8, and whether something was cut out of the middle.

        Bytes that are no UTF-8, and NUL, become U+FFFD.
        """
        raw = bytes(self._head + self._tail)
        if not self.full:
            whole = _decode(raw)
            if len(_printable(whole).encode()) <= self._limit:
                return _printable(whole), False
        half = (self._limit - MARKER_ROOM) // 2
        head = _decode(raw[: _boundary(raw, half, -1)])
        head = head[: _fitting(head, half)]
        rest = raw[len(_encode(head)) :]
        tail = _decode(rest[_boundary(rest, max(0, len(rest) - half), 1) :])
        tail = tail[len(tail) - _fitting(tail[::-1], half) :]
        cut = self.total - len(_encode(head)) - len(_encode(tail))
        marker = f"\n[... {cut} bytes of output were cut out here ...]\n"
        return _printable(head) + marker + _printable(tail), True


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _printable(text: str) -> str:
    return text.translate(_UNPRINTABLE)


def _fitting(text: str, budget: int) -> int:
    """How many characters from the start fit into a budget of bytes, once they are printable."""
    if len(_printable(text).encode()) <= budget:
        return len(text)
    used = 0
    for index, character in enumerate(text):
        used += len(_printable(character).encode())
        if used > budget:
            return index
    return len(text)


def _boundary(raw: bytes, position: int, step: int) -> int:
    """The position, moved by up to three bytes if a character would be torn there."""
    for moved in range(position, position + 4 * step, step):
        if not 0 < moved < len(raw) or raw[moved] & 0xC0 != 0x80:
            return moved
    return position  # no character is that long: these bytes are no text
