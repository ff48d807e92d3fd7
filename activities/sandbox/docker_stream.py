"""The attached stream of a container: source in, both outputs out.

The engine blocks every other call about a container whose attached stream nobody reads (`kill`, `rm -f`, even
`inspect`). So the stream is read to its end, whatever is thrown away, or closed before anything else is done.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

from activities.sandbox.output import Captured
from activities.sandbox.process import PAUSE_SECONDS

CHUNK = 64 * 1024

_HEADER = struct.Struct(">BxxxL")
_STDOUT, _STDERR = 1, 2


class Demultiplexer:
    """Takes Docker's frames apart: a byte that names the stream, three of nothing, four of length, then data."""

    def __init__(self) -> None:
        self.stdout = Captured()
        self.stderr = Captured()
        self._header = bytearray()
        self._stream: Captured | None = None
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        view = memoryview(data)
        while view:
            if self._left:
                part = view[: self._left]
                if self._stream is not None:
                    self._stream.feed(bytes(part))
                self._left -= len(part)
                view = view[len(part) :]
            else:
                part = view[: _HEADER.size - len(self._header)]
                self._header += part
                view = view[len(part) :]
                if len(self._header) == _HEADER.size:
                    number, self._left = _HEADER.unpack(bytes(self._header))
                    self._stream = {_STDOUT: self.stdout, _STDERR: self.stderr}.get(number)
                    self._header.clear()

    @property
    def full(self) -> bool:
        """True once either stream is past its limit."""
        return self.stdout.full or self.stderr.full


class Attached:
    """Reads a container's stream from the moment it is made. The socket is its own and not blocking."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._hurry = False
        self.output = Demultiplexer()
        self._reading = asyncio.ensure_future(self._read())

    @property
    def over(self) -> bool:
        """True once the stream has ended."""
        return self._reading.done()

    def when_over(self, told: Callable[[], None]) -> None:
        """Call `told` once the stream has ended."""
        self._reading.add_done_callback(lambda _: told())

    async def send(self, data: bytes) -> None:
        """Write to the container's stdin. A container that is gone already is no error: its exit code tells."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except (BrokenPipeError, ConnectionResetError):
            return

    async def ends_within(self, seconds: float) -> bool:
        """True if the stream ended in this time: the container is over, or the engine is gone."""
        done, _ = await asyncio.wait([self._reading], timeout=seconds)
        return bool(done)

    def hurry(self) -> None:
        """Read what is left without pauses: the container is being killed."""
        self._hurry = True

    async def close(self) -> None:
        """Stop reading and close the connection. May be called again."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._socket.close()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._socket, CHUNK):
                self.output.feed(data)
                if self.output.full and not self._hurry:
                    await asyncio.sleep(PAUSE_SECONDS)
        except OSError:
            return  # the engine closed it the hard way: whether the container still runs is asked next
