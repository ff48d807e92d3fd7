"""Whatever a host answers, `web_fetch` gives a result: never an exception, never more than its caps, never a word of ours mixed up."""

import asyncio
import gzip
import json
from collections.abc import Sequence

import httpcore
from hypothesis import example, given, settings
from hypothesis import strategies as st

from activities.egress.client import Egress
from activities.egress.messages import MAX_RESPONSE_BYTES
from activities.tools.base import Call
from activities.tools.web_fetch import WebFetch, WebFetchArguments
from conductor_ai.contracts.tools import ToolResult
from tests.fixtures_web import PUBLIC

CALL = Call(org_id="org", session_id="s", call_id="call_7", run_id="r", attempt=1)

_STATUS = (
    b"200 OK",
    b"204 No Content",
    b"101 Switching",
    b"304 x",
    b"302 Found",
    b"000 x",
    b"99 x",
    b"999",
    b"200",
    b"-1 x",
    b"",
)
_HEADERS = (
    *(
        b"Content-Length: 5",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: -1",
        b"Transfer-Encoding: chunked",
    ),
    *(
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Encoding: gzip",
        b"Content-Encoding: deflate",
        b"Content-Encoding: br",
    ),
    *(b"Content-Type: text/html; charset=utf-16", b"Content-Type: text/html", b"Content-Type: application/json"),
    *(
        b"Content-Type: \xff\xfe",
        b'Content-Type: text/html; charset="',
        b"Location: http://[",
        b"Location: \xe2\x80\xae",
    ),
    *(
        b"Location: //\\\\x",
        b"X: y",
        b"X",
        b": y",
        b" folded",
        b"X:\x00",
        b"Set-Cookie: a=b",
        b"Connection: upgrade",
        b"Upgrade: h2c",
    ),
)
_BODIES = (
    *(
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nx",
        b"0\r\nX: y\r\n\r\n",
        b"\xff\xfe<\0p\0>\0",
    ),
    *(
        gzip.compress(b"x" * 100_000),
        gzip.compress(b"<p>page")[:-4],
        b"<title>\0</title><a href='http://[x'>\xc3",
        b"\x00" * 2_000,
    ),
    *(b"<p>" * 30_000, b"\x80" * 60_000),
)


def answers(status: bytes, headers: Sequence[bytes], body: bytes) -> bytes:
    """An answer made of parts, sound or not."""
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


made = st.builds(
    answers, st.sampled_from(_STATUS), st.lists(st.sampled_from(_HEADERS), max_size=5), st.sampled_from(_BODIES)
)
noisy = st.builds(
    lambda text, at, noise: text[:at] + noise + text[at:], made, st.integers(0, 120), st.binary(max_size=6)
)


async def fetched(wire: bytes, piece: int, method: str) -> ToolResult:
    """The tool's result, from a host that says exactly this, in pieces."""

    async def resolve(_host: str) -> Sequence[str]:
        return [PUBLIC]

    async def connect(_address: str, _port: int) -> httpcore.AsyncNetworkStream:
        return httpcore.AsyncMockStream([wire[at : at + piece] for at in range(0, len(wire), piece)])

    tool = WebFetch(Egress(resolve=resolve, connect=connect))
    given = {"url": "http://example.org/", "method": method, "timeout": 5}
    return await tool.run(WebFetchArguments.model_validate_json(json.dumps(given)), CALL)


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(made, noisy, st.binary(max_size=200)),
    st.sampled_from([7, 1000, 70_000]),
    st.sampled_from(["GET", "POST"]),
)
@example(answers(b"101 x", [b"Upgrade: h2c", b"Connection: upgrade"], b"hello"), 7, "GET")
@example(answers(b"200 OK", [b"Content-Encoding: gzip", b"Content-Type: text/html"], _BODIES[6]), 7, "GET")
def test_any_answer_is_a_result(wire: bytes, piece: int, method: str) -> None:
    """Proves that no bytes of a host's break out of the tool, and that what comes back is bounded and can be stored."""
    result = asyncio.run(fetched(wire, piece, method))
    assert result.ok == (result.error is None)
    assert len(result.content) < 3 * MAX_RESPONSE_BYTES
    text = result.model_dump_json()
    assert "\\u0000" not in text
    text.encode()
