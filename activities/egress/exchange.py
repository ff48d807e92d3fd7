"""One HTTP/1.1 exchange over a pinned network, bounded in time and in decoded bytes."""

import asyncio
import ssl
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpcore

from activities.egress.headers import incoming
from activities.egress.messages import End, Request, Response
from activities.egress.reasons import Failed, Failure
from activities.egress.target import Target
from activities.egress.unpack import Unpacker, unpacker
from activities.egress.wire import OwnTrouble, Pinned

WIRE_SLACK = 64 * 1024
"""Bytes over the wire beyond the cap that a packed body may take: packing rarely makes anything longer."""

HEAD_BYTES = 128 * 1024
"""Bytes over the wire for what is not the body: the head, informational answers, chunk sizes, trailers."""

_FIRST_BYTE_OUT = "http11.send_request_headers.started"


@dataclass(slots=True)
class _Progress:
    """Told by httpcore, so that a failure can say whether the host may have the request."""

    sent: bool = False

    async def trace(self, event: str, _details: dict[str, Any]) -> None:
        if event == _FIRST_BYTE_OUT:
            self.sent = True


async def exchange(
    target: Target,
    request: Request,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    network: Pinned,
    ssl_context: ssl.SSLContext | None,
    deadline: float,
) -> Response:
    """Send the request and read its answer until the end, the cap or the deadline (the loop's clock).

    httpcore's connection class is used without its pool: it opens one connection through `network`, follows
    nothing, knows no proxy and no cookie.

    Raises:
        Failed: there is no answer.
    """
    progress = _Progress()
    origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
    connection = httpcore.AsyncHTTPConnection(origin, ssl_context=ssl_context, network_backend=network)
    raw = httpcore.Request(
        request.method,
        httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target.path.encode()),
        headers=headers,
        content=request.body,
        extensions={"trace": progress.trace},
    )
    try:
        with _sorted(network, progress):
            async with asyncio.timeout_at(deadline):
                answer = await connection.handle_async_request(raw)
        kept = incoming(answer.headers)
        codings = [value for name, value in kept if name == "content-encoding"]
        body, end = await _read(
            cast("AsyncIterable[bytes]", answer.stream), unpacker(codings), request.max_bytes, deadline
        )
        if network.meter.over:
            end = End.CAP
        return Response(url=target.url, status=answer.status, headers=kept, body=body, end=end)
    finally:
        await network.aclose()


def most_bytes(request: Request) -> int:
    """What the connection for a request may bring, whatever it is."""
    return request.max_bytes + WIRE_SLACK + HEAD_BYTES


@contextmanager
def _sorted(network: Pinned, progress: _Progress) -> Iterator[None]:
    """Every way to get no answer, as one of our failures."""
    try:
        yield
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise Failed(Failure.TIMEOUT, sent=progress.sent) from error
    except OwnTrouble as error:
        raise Failed(Failure.LOCAL, sent=False) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        if progress.sent:
            raise Failed(Failure.PROTOCOL, sent=True) from error
        raise Failed(Failure.TLS if network.connected else Failure.CONNECT, sent=False) from error


async def _read(
    stream: AsyncIterable[bytes], unpack: Unpacker | None, max_bytes: int, deadline: float
) -> tuple[bytes, End]:
    if unpack is None:
        return b"", End.UNKNOWN_ENCODING
    body = bytearray()
    wire = 0
    try:
        async with asyncio.timeout_at(deadline), aclosing(cast("Any", aiter(stream))) as chunks:
            async for chunk in chunks:
                wire += len(chunk)
                body += unpack.feed(chunk, max_bytes + 1 - len(body))
                if len(body) > max_bytes or wire > max_bytes + WIRE_SLACK:
                    return bytes(body[:max_bytes]), End.CAP
                if unpack.damaged:
                    return bytes(body), End.BROKEN
    except (TimeoutError, httpcore.TimeoutException):
        return bytes(body), End.DEADLINE
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
        return bytes(body), End.BROKEN
    return bytes(body), End.BROKEN if unpack.unfinished else End.COMPLETE
