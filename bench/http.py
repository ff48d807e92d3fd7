"""The least HTTP/1.1 client that keeps its connection: what it costs itself must not blur what is measured. Standard library only."""

import asyncio
import json
from typing import Any


class Connection:
    """One connection to a server on this machine."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._port = port
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect."""
        return cls(port, *await asyncio.open_connection("127.0.0.1", port))

    async def raw(self, method: str, path: str, body: Any = None, headers: str = "") -> tuple[int, bytes]:
        """Send a request and read the whole answer: its status and its body. `headers`: more of them, each with its line end."""
        if self._reader.at_eof():  # the server closes connections that were idle for some seconds
            self._writer.close()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
        self._writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
        return int(lines[0].split()[1]), await self._reader.readexactly(length)

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The same with the body as a document."""
        status, text = await self.raw(method, path, body)
        return status, json.loads(text) if text else None

    def close(self) -> None:
        """Close it."""
        self._writer.close()
