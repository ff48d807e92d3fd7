"""Following a session by Server-Sent Events, over as many connections as it takes."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Self, TypeVar

from conductor_ai.client.errors import ClientError, ConnectionFailed
from conductor_ai.client.reading import parsed
from conductor_ai.client.retrying import Options, backoff, judged
from conductor_ai.client.steps import Answer, Emit, Feed, Open, Pause, Read, Request, path, query
from conductor_ai.client.transports import AsyncTransport, SyncTransport
from conductor_ai.contracts.events import DeltaView, EventView

T = TypeVar("T")

SILENCE = 30.0
"""Seconds without a byte, on top of the timeout, after which a connection counts as lost. The server says something more often."""
NOTHING_MORE = 204


@dataclass
class Parser:
    """Messages out of the bytes of an event stream, however they are cut."""

    _rest: bytes = b""
    _event: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, piece: bytes) -> Iterator[tuple[str, str]]:
        """The messages that this piece completes: name and data. Comments, which keep the line alive, are none."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._event = value
            elif name == "data":
                self._data.append(value)
            elif not line:
                if self._data:
                    yield self._event, "\n".join(self._data)
                self._event, self._data = "", []


def followed(session_id: str, after: int, *, deltas: bool, options: Options) -> Feed[EventView | DeltaView]:
    """Every event after number `after`, once and in order, until the session's last.

    Raises:
        ApiError: the server refuses. ConnectionFailed: it stayed away for longer than the client's patience.
    """
    last, pauses, until = after, backoff(options), options.clock() + options.patience
    while True:
        reply = yield Open(_request(session_id, last, deltas=deltas))
        failure: ClientError
        again: float | None
        heard = False
        match reply:
            case Answer(status=200):
                parser = Parser()
                while isinstance(piece := (yield Read()), bytes):
                    for name, data in parser.feed(piece):
                        heard = True
                        if name == "delta":
                            yield Emit(parsed(DeltaView, data))
                            continue
                        event = parsed(EventView, data)
                        if event.seq > last:
                            last = event.seq
                            yield Emit(event)
                failure, again = ConnectionFailed(f"The stream of {options.url} broke off, and stayed away."), 0.0
            case Answer(status=204):
                return
            case _:
                failure, again = judged(reply, options)
        if heard:  # Whoever says something is there: patience begins anew.
            pauses, until = backoff(options), options.clock() + options.patience
        if again is None or options.clock() + (pause := max(again, next(pauses))) > until:
            raise failure
        yield Pause(pause)


def _request(session_id: str, last: int, *, deltas: bool) -> Request:
    headers = {"Accept": "text/event-stream"}
    if last:
        headers["Last-Event-ID"] = str(last)
    return Request("GET", path("/v1/agents/{}/stream", session_id), query(deltas=deltas), headers=headers, wait=SILENCE)


class Stream(Generic[T]):
    """Results as they come. Leave it by its end, `close()` or a `with`: until then it holds a connection."""

    def __init__(self, transport: SyncTransport, feed: Feed[T]) -> None:
        self._results: Generator[T, None, None] = transport.iterate(feed)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return next(self._results)

    def close(self) -> None:
        """Hang up."""
        self._results.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(Generic[T]):
    """The same with `async for`, `await close()` and `async with`."""

    def __init__(self, transport: AsyncTransport, feed: Feed[T]) -> None:
        self._results: AsyncGenerator[T, None] = transport.iterate(feed)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await anext(self._results)

    async def close(self) -> None:
        """Hang up."""
        await self._results.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
