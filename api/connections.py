"""Connections that say nothing: a request's head has to come in time."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From the opening of a connection, or the end of the answer before, to the end of the next request's head."""


class Impatient(H11Protocol):
    """uvicorn's HTTP/1.1, which closes idle connections, and here also those that never finish a head.

    It waits for ever for the rest of a head that has begun; a few thousand of those use up what the process may open.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._done()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._late)

    def _done(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
