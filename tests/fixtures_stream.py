"""Streams of the API on a real socket, with a reader that takes one message at a time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from conductor_ai.stores.access import Role
from tests.fixtures_api import Api
from tests.fixtures_socket import listening


@dataclass
class Message:
    """One message of a stream."""

    event: str = "message"
    id: str | None = None
    data: Any = None


@dataclass
class Reader:
    """An open stream."""

    answer: httpx.Response
    heard: list[Message] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    retry: int | None = None

    def __post_init__(self) -> None:
        self._messages = self._read()

    async def _read(self) -> AsyncIterator[Message]:
        message, started = Message(), False
        async for line in self.answer.aiter_lines():
            if not line:
                if started:
                    self.heard.append(message)
                    yield message
                message, started = Message(), False
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "":
                    self.comments.append(value)
                case "event":
                    message.event, started = value, True
                case "id":
                    message.id, started = value, True
                case "data":
                    message.data, started = json.loads(value), True
                case "retry":
                    self.retry = int(value)
                case _:
                    raise AssertionError(f"no field of an event stream: {line!r}")

    async def next(self, seconds: float = 10) -> Message:
        """The next message."""
        async with asyncio.timeout(seconds):
            return await anext(self._messages)

    async def event(self, seconds: float = 10) -> Message:
        """The next durable event."""
        while (message := await self.next(seconds)).id is None:
            pass
        return message

    async def until(self, event: str, seconds: float = 20) -> Message:
        """Read on up to an event of this type."""
        async with asyncio.timeout(seconds):
            while (message := await anext(self._messages)).event != event:
                pass
        return message

    async def rest(self, seconds: float = 20) -> list[Message]:
        """All messages up to the end of the stream."""
        async with asyncio.timeout(seconds):
            return [message async for message in self._messages]

    @property
    def seqs(self) -> list[int]:
        """The numbers of the durable events that have come so far."""
        return [int(message.id) for message in self.heard if message.id is not None]


@dataclass
class Streams:
    """Opens streams of one API on a socket."""

    api: Api
    http: httpx.AsyncClient

    @asynccontextmanager
    async def open(
        self, session_id: str, query: str = "", *, role: Role = Role.VIEWER, last: int | str | None = None
    ) -> AsyncIterator[Reader]:
        """One stream, which must be welcome."""
        headers = self.api.as_(role) if last is None else {**self.api.as_(role), "Last-Event-ID": str(last)}
        async with self.http.stream("GET", f"/v1/agents/{session_id}/stream{query}", headers=headers) as answer:
            if answer.status_code != 200:
                await answer.aread()
                raise AssertionError(f"{answer.status_code}: {answer.text}")
            yield Reader(answer)


@asynccontextmanager
async def streams_of(api: Api) -> AsyncIterator[Streams]:
    """The API on a socket, with a client that holds as many connections as it is asked for."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        listening(api) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, limits=limits, timeout=30) as http,
    ):
        yield Streams(api, http)
