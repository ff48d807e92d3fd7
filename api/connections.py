"""Connections: heads that must come in time and in one reading, and an end that the other side gets to hear of."""

import asyncio
import re
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.problems import Refused, problem
from conductor_ai.errors import Code
from conductor_ai.names import new_id

HEAD_SECONDS = 10.0
"""From the opening of a connection, or the end of the answer before, to the end of the next request's head."""
LINGER_SECONDS = 2.0
"""How long what is still being sent is thrown away after an answer that came before its end."""

_TWO_READINGS = re.compile(rb"(?<!\r)\n|\n[ \t]")


class OneReading(ReceiveBuffer):
    """h11's buffer, without its forbearance: lines end in CRLF and are not continued on the next one.

    A proxy before us may take a bare LF, or a line that begins with a space, for a part of the header before, and see another request
    than we do (RFC 9112 2.2 and 5.2 let a server refuse both).
    """

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """The lines up to the first blank one, once that is there.

        Raises:
            h11.LocalProtocolError: they can be read in two ways.
        """
        begin = max(0, self._multiple_lines_search - 2)  # what came before has been looked at
        end = self._data.find(b"\r\n\r\n", begin)
        found = _TWO_READINGS.search(self._data, begin)
        if found is not None and (end < 0 or found.start() < end):
            raise h11.LocalProtocolError("a line ends in a bare LF, or goes on in the next one")
        return super().maybe_extract_lines()


class Lingering:
    """A transport whose `close`, while the other side still sends, first lets it hear the answer.

    Closing a socket with unread bytes resets the connection, and the reset overtakes the answer.
    """

    def __init__(self, transport: asyncio.Transport, protocol: "Impatient") -> None:
        self._transport = transport
        self._protocol = protocol
        self._end: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def lingers(self) -> bool:
        """Whether all that is to be said is said."""
        return self._end is not None

    def is_closing(self) -> bool:
        """True also while it lingers."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """Close at once, or after the other side has fallen silent, or after 2 s."""
        if self.is_closing() or not self._protocol.unread or not self._transport.can_write_eof():
            self.gone()
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._end = self._protocol.loop.call_later(LINGER_SECONDS, self._transport.close)

    def gone(self) -> None:
        """Nothing has to be closed any more."""
        if self._end is not None:
            self._end.cancel()


class Impatient(H11Protocol):
    """uvicorn's HTTP/1.1, which closes idle connections, and here also those that never finish a head.

    It waits for ever for the rest of a head that has begun; a few thousand of those use up what the process may open.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn._receive_buffer = OneReading()  # noqa: SLF001 - h11 takes none from outside
        self._head: asyncio.TimerHandle | None = None
        self._lingering: Lingering | None = None

    @property
    def unread(self) -> bool:
        """Whether the other side may still be sending: its request was answered before it had ended, or another has begun."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR) or self._begun

    @property
    def _begun(self) -> bool:
        """Whether there are bytes of a request that is not carried out."""
        return bool(self.conn.trailing_data[0])

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._lingering = Lingering(transport, self)
        super().connection_made(self._lingering)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None and self._lingering.lingers:
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        if self._lingering is not None:
            self._lingering.gone()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it says no more than we do
        """Answer what is no HTTP."""
        self._refuse(400, "Bad Request", "This is no HTTP/1.1 that every program reads alike, or its head is too long.")

    def _refuse(self, status: int, reason: str, detail: str) -> None:
        """Answer what has not become a request, by the problem document that every other error is, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            request_id = new_id("req")
            answer = problem(
                Refused(
                    detail,
                    code=Code.INVALID_REQUEST,
                    status=status,
                    headers={"Connection": "close", "X-Request-ID": request_id, "Cache-Control": "no-store"},
                ),
                request_id,
            )
            response = h11.Response(status_code=status, headers=answer.raw_headers, reason=reason.encode())
            for event in (response, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """There is nothing to upgrade to, and nobody has to be told to install something: the request is answered as it is."""

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
        if self.transport.is_closing():
            return
        if self._begun:
            self._refuse(408, "Request Timeout", f"The head of the request did not arrive within {HEAD_SECONDS:.0f} s.")
        else:
            self.transport.close()  # Nothing was asked, and an answer could be taken for that to the next question.
