"""The two transports: each carries out the steps of a flow, one by waiting, the other by awaiting. They decide nothing."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import TypeVar

import httpx

from conductor_ai.client.retrying import Options
from conductor_ai.client.steps import Answer, Emit, Feed, Flow, Lost, Open, Pause, Read, Reply, Request, Send, Step

T = TypeVar("T")


@dataclass(frozen=True)
class SyncTransport:
    """Carries out flows, and returns when they are done."""

    http: httpx.Client
    options: Options

    def run(self, flow: Flow[T]) -> T:
        """The result of a flow."""
        with closing(_Wire(self)) as wire:
            reply: Reply = None
            while True:
                try:
                    step = flow.send(reply)
                except StopIteration as end:
                    result: T = end.value
                    return result
                reply = wire.do(step)

    def iterate(self, feed: Feed[T]) -> Generator[T, None, None]:
        """The results of a feed, as they come."""
        with closing(feed), closing(_Wire(self)) as wire:
            reply: Reply = None
            while True:
                try:
                    step = feed.send(reply)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    reply = None
                    yield step.item
                else:
                    reply = wire.do(step)


@dataclass(frozen=True)
class AsyncTransport:
    """Carries out flows without holding up anybody else."""

    http: httpx.AsyncClient
    options: Options

    async def run(self, flow: Flow[T]) -> T:
        """The result of a flow."""
        async with aclosing(_AsyncWire(self)) as wire:
            reply: Reply = None
            while True:
                try:
                    step = flow.send(reply)
                except StopIteration as end:
                    result: T = end.value
                    return result
                reply = await wire.do(step)

    async def iterate(self, feed: Feed[T]) -> AsyncGenerator[T, None]:
        """The results of a feed, as they come."""
        with closing(feed):
            async with aclosing(_AsyncWire(self)) as wire:
                reply: Reply = None
                while True:
                    try:
                        step = feed.send(reply)
                    except StopIteration:
                        return
                    if isinstance(step, Emit):
                        reply = None
                        yield step.item
                    else:
                        reply = await wire.do(step)


class _Wire:
    """What one flow has open."""

    def __init__(self, transport: SyncTransport) -> None:
        self._http = transport.http
        self._options = transport.options
        self._open: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def do(self, step: Step) -> Reply:
        """Carry out one step."""
        try:
            match step:
                case Pause(seconds):
                    time.sleep(seconds)
                    return None
                case Send(request):
                    return _answer(self._http.send(_request(self._http, request, self._options)))
                case Open(request):
                    self.close()
                    self._open = self._http.send(_request(self._http, request, self._options), stream=True)
                    if self._open.status_code != httpx.codes.OK:
                        self._open.read()
                        return _answer(self._open)
                    self._pieces = self._open.iter_bytes()
                    return _head(self._open)
                case Read():
                    return next(self._pieces, None)
        except httpx.TransportError as error:
            return Lost(type(error).__name__)

    def close(self) -> None:
        """Hang up."""
        if self._open is not None:
            self._open.close()


class _AsyncWire:
    """What one flow has open."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._http = transport.http
        self._options = transport.options
        self._open: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def do(self, step: Step) -> Reply:
        """Carry out one step."""
        try:
            match step:
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                    return None
                case Send(request):
                    return _answer(await self._http.send(_request(self._http, request, self._options)))
                case Open(request):
                    await self.aclose()
                    self._open = await self._http.send(_request(self._http, request, self._options), stream=True)
                    if self._open.status_code != httpx.codes.OK:
                        await self._open.aread()
                        return _answer(self._open)
                    self._pieces = self._open.aiter_bytes()
                    return _head(self._open)
                case Read():
                    return None if self._pieces is None else await anext(self._pieces, None)
        except httpx.TransportError as error:
            return Lost(type(error).__name__)

    async def aclose(self) -> None:
        """Hang up."""
        if self._open is not None:
            await self._open.aclose()


def _request(http: httpx.Client | httpx.AsyncClient, request: Request, options: Options) -> httpx.Request:
    return http.build_request(
        request.method,
        options.url + request.path,
        params=request.query,
        json=request.body,
        headers={**options.headers, **request.headers},
        timeout=options.timeout + request.wait,
    )


def _head(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, b"")


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content)
