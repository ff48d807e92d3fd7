"""A small HTTP/1.1 server on loopback: one handler, real sockets, chunked answers, everything received is kept."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

LARGEST_BODY = 32 * 1024 * 1024
REASONS = {200: "OK", 400: "Bad Request", 429: "Too Many Requests", 500: "Internal Server Error", 529: "Overloaded"}


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class CutOff(Exception):
    """Raised by an answer to break the connection off in the middle."""


@dataclass(frozen=True)
class Answer:
    """One response. A stream is sent in chunks as it comes; text is sent whole."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    text: str = ""
    stream: AsyncIterator[str] | None = None


Handler = Callable[[Received], Awaitable[Answer]]


class LoopbackServer:
    """Serves one handler on 127.0.0.1. Use as an async context manager, or `start()` and `stop()`."""

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self._handler = handler
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.received: list[Received] = []
        self.left = asyncio.Event()
        """Set when a client leaves before its answer has ended."""

    @property
    def url(self) -> str:
        """Address without a path, once it has been started."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen. Port 0 takes a free one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, limit=2**20)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        # Not by cancelling: asyncio's own callback reports a cancelled connection as an error.
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> "LoopbackServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while (request := await _read(reader)) is not None:
                self.received.append(request)
                if not await self._answer(await self._handler(request), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, CutOff):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            del self._open[task]  # only now: `stop` waits for those that still close

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one answer. False if the connection is of no more use."""
        chunked = answer.stream is not None
        length = "transfer-encoding: chunked" if chunked else f"content-length: {len(answer.text.encode())}"
        head = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Status')}", length]
        head += [
            f"content-type: {answer.content_type}",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
        ]
        writer.write("\r\n".join([*head, "", ""]).encode())
        if answer.stream is None:
            writer.write(answer.text.encode())
            await writer.drain()
            return True
        sending = asyncio.ensure_future(_send(answer.stream, writer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                self.left.set()
                return False
            sending.result()
            # A byte read here belongs to a pipelined request, which no client of ours sends.
            return not leaving.done()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send(stream: AsyncIterator[str], writer: asyncio.StreamWriter) -> None:
    async for piece in stream:
        raw = piece.encode()
        writer.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    first, *lines = head.split("\r\n")
    method, _, rest = first.partition(" ")
    headers = {
        name.strip().lower(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon
    }
    length = int(headers.get("content-length", "0"))
    body = await reader.readexactly(length) if 0 < length <= LARGEST_BODY else b""
    return Received(method=method, path=rest.partition(" ")[0], headers=headers, body=body)
