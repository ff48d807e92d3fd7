"""Bytes that no well-meaning client sends, over a raw socket to the API as a process: a 4xx at once, and no memory lost."""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from api.problems import MEDIA_TYPE
from conductor_ai.names import new_id
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.postgres import Database
from tests.fixtures_process import ApiProcess, Said, api_process
from tests.fixtures_servers import wait_until

MOST_SECONDS = 0.05
ATTEMPTS = 20
"""The machine that tests has other things to do: in one attempt of so many the server's own work has to be as quick as it is
in all of them on an idle one."""
FLAT_BYTES = 24_000_000
KEY = b"ck_" + b"k" * 43
"""Stands in a request for a real key."""

MEGABYTE = 1_000_000
CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
HEAD = (
    b"POST /v1/agents/run HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: " + KEY + b"\r\nContent-Type: application/json\r\n"
)


def body(raw: bytes) -> tuple[bytes, ...]:
    """A start with this body."""
    return (HEAD + b"Content-Length: %d\r\n\r\n" % len(raw) + raw,)


def post(*lines: bytes, then: bytes = b"{}") -> tuple[bytes, ...]:
    """A start with these further headers."""
    return (HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + then,)


def get(target: bytes, *lines: bytes) -> tuple[bytes, ...]:
    """A GET with these further headers."""
    head = b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: " + KEY + b"\r\n"
    return (head + b"".join(line + b"\r\n" for line in lines) + b"\r\n",)


SIZES = {
    "100 MB by its length": ((HEAD + b"Content-Length: 100000000\r\n\r\n", *[b"x" * 65_536] * 1600), 413),
    "100 MB in chunks": ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[CHUNK] * 1600), 413),
    "100 MB expecting to be asked for": (post(b"Expect: 100-continue", b"Content-Length: 100000000", then=b""), 413),
    "a number of 99 MB": ((HEAD + b"Content-Length: 99000000\r\n\r\n{", *[b"9" * 65_536] * 1600), 413),
    "a chunk of 2^64": (post(b"Transfer-Encoding: chunked", then=b"f" * 30 + b"\r\n{"), 400),
    "a header of 1 MB": (post(b"X-A: " + b"a" * MEGABYTE, b"Content-Length: 2"), 400),
    "an idempotency key of 1 MB": (post(b"Idempotency-Key: " + b"k" * MEGABYTE, b"Content-Length: 2"), 400),
    "an idempotency key of 60 KB": (post(b"Idempotency-Key: " + b"k" * 60_000, b"Content-Length: 2"), 422),
    "an API key of 1 MB": (get(b"/v1/tools", b"Authorization: Bearer ck_" + b"a" * MEGABYTE), 400),
    "100,000 headers": (get(b"/v1/tools", *[b"X-%d: a" % i for i in range(100_000)]), 400),
    "a path of 15 KB": (get(b"/v1/agents/" + b"x" * 15_000), 414),
    "a path of 1 MB": (get(b"/v1/agents/" + b"x" * MEGABYTE), 400),
    "a path of escapes": (get(b"/v1/agents/" + b"%2e%2e%2f" * 1500), 414),
    "a query of 15 KB": (get(b"/v1/agents?" + b"a=b&" * 3700), 414),
    "a query of 2,000 names": (get(b"/v1/agents?" + b"a&" * 2000), 422),
    "a query of 1 MB": (get(b"/v1/agents?" + b"a=b&" * 250_000), 400),
}
BODIES = {
    "lists 10,000 deep": (b"[" * 10_000 + b"]" * 10_000, 400),
    "objects 10,000 deep": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400),
    "a million brackets": (b"[" * 990_000, 400),
    "a million lists": (b"[" + b"[]," * 300_000 + b"[]]", 400),
    "300,000 empty messages": (b'{"messages":[' + b"{}," * 300_000 + b"{}]}", 400),
    "2,400 wrong messages": (b'{"messages":[' + b"{}," * 2_400 + b"{}]}", 422),
    "90,000 keys": (b"{" + b",".join(b'"k%d":1' % i for i in range(90_000)) + b"}", 400),
    "texts of commas": (b"[" + b'",",' * 240_000 + b'""]', 400),
    "a key of 1 MB": (b'{"' + b"k" * 990_000 + b'":1}', 422),
    "NUL in a key": (b'{"messages":[],"\\u0000":1}', 422),
    "NUL itself": (b'{"messages":"\x00"}', 400),
    "a lone surrogate": (b'{"messages":"\\ud800"}', 422),
    "surrogates the wrong way round": (b'{"model":"\\udfff\\ud800"}', 422),
    "NaN": (b'{"max_steps":NaN}', 400),
    "Infinity": (b'{"max_steps":Infinity}', 400),
    "-Infinity": (b'{"max_steps":-Infinity}', 400),
    "a float beyond all": (b'{"max_steps":1e999}', 400),
    "an integer of 900,000 digits": (b'{"max_steps":' + b"9" * 900_000 + b"}", 400),
    "a fraction of 900,000 digits": (b'{"max_steps":0.' + b"9" * 900_000 + b"}", 422),
    "4,500 long fractions": (b'{"tools":[' + (b"0." + b"9" * 198 + b",") * 4_500 + b"1]}", 422),
    "a key given twice": (b'{"max_steps":1,"max_steps":1}', 400),
    "no UTF-8": (b'{"messages":"\xff\xfe"}', 400),
    "a surrogate as UTF-8": (b'{"messages":"\xed\xa0\x80"}', 400),
    "an overlong slash": (b'{"messages":"\xc0\xaf"}', 400),
    "UTF-16": ('{"messages":[]}'.encode("utf-16"), 400),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400),
    "two values": (b"{}{}", 400),
    "nothing": (b"", 400),
    "a comment": (b"{/* */}", 400),
}
HEADS = {
    "length and chunks": post(b"Content-Length: 2", b"Transfer-Encoding: chunked", then=b"2\r\n{}\r\n0\r\n\r\n"),
    "chunks and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 2", then=b"2\r\n{}\r\n0\r\n\r\n"),
    "chunks behind a tab, and length": post(b"Transfer-Encoding:\tchunked", b"Content-Length: 2"),
    "two lengths": post(b"Content-Length: 2", b"Content-Length: 3"),
    "a list of lengths": post(b"Content-Length: 2, 3"),
    "a signed length": post(b"Content-Length: +2"),
    "a length in hex": post(b"Content-Length: 0x2"),
    "two codings": post(b"Transfer-Encoding: gzip, chunked", then=b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", then=b"2\r\n{}\r\n0\r\n\r\n"),
    "almost chunked": post(b"Transfer-Encoding: xchunked", then=b"2\r\n{}\r\n0\r\n\r\n"),
    "a space before the colon": post(b"Transfer-Encoding : chunked", then=b"2\r\n{}\r\n0\r\n\r\n"),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked", then=b"2\r\n{}\r\n0\r\n\r\n"),
    "a folded header": get(b"/v1/tools", b"X-A: a", b" b"),
    "a header folded by a tab": get(b"/v1/tools", b"X-A: a", b"\tb"),
    "bare LFs": (b"GET /v1/tools HTTP/1.1\nHost: 127.0.0.1\nX-API-Key: " + KEY + b"\n\n",),
    "one bare LF": get(b"/v1/tools", b"X-A: a\nX-B: b"),
    "a bare LF at the end of the head": (get(b"/v1/tools")[0][:-2] + b"\n",),
    "a bare CR": get(b"/v1/tools", b"X-A: a\rX-B: b"),
    "NUL in a header": get(b"/v1/tools", b"X-A: a\x00b"),
    "a header with a space in its name": get(b"/v1/tools", b"X A: a"),
    "a header without a name": get(b"/v1/tools", b": a"),
    "a chunk of no size": post(b"Transfer-Encoding: chunked", then=b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk of a negative size": post(b"Transfer-Encoding: chunked", then=b"-2\r\n{}\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": post(b"Transfer-Encoding: chunked", then=b"1\r\n{}\r\n0\r\n\r\n"),
    "a trailer with a bare LF": post(b"Transfer-Encoding: chunked", then=b"2\r\n{}\r\n0\r\nX-A: a\nX-B: b\r\n\r\n"),
    "no host": (b"GET /v1/tools HTTP/1.1\r\nX-API-Key: " + KEY + b"\r\n\r\n",),
    "two hosts": get(b"/v1/tools", b"Host: elsewhere"),
    "two API keys": get(b"/v1/tools", b"X-API-Key: ck_" + b"b" * 43),
    "two authorizations": get(b"/v1/tools", b"Authorization: Bearer " + KEY, b"Authorization: Basic YTpi"),
    "HTTP/0.9": (b"GET /\r\n\r\n",),
    "a space in the target": get(b"/v1/tools /v1/agents"),
    "no method": (b"G@T /v1/tools HTTP/1.1\r\nHost: a\r\n\r\n",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,),
}
TYPES = (
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "application/json-patch+json",
    "application/json, text/plain", "*/*", "",
)  # fmt: skip


@pytest.fixture(scope="module")
async def process(store_url: str) -> AsyncIterator[tuple[ApiProcess, bytes]]:
    """The API as a process, with a key of an administrator."""
    database = Database(store_url, size=1)
    _, secret = await Keys(database).create(new_id("org"), "hostile", Role.ADMIN)
    await database.close()
    with TemporaryDirectory() as folder:
        async with api_process(Path(folder), DATABASE_URL=store_url) as running:
            yield running, secret.encode()


async def refused(process: tuple[ApiProcess, bytes], parts: tuple[bytes, ...], status: int) -> Said:
    """Say it, until it is answered quickly enough. Returns the answer, which is a whole problem document."""
    running, secret = process
    sent = (parts[0].replace(KEY, secret), *parts[1:])
    times = []
    for _ in range(ATTEMPTS):
        said = await running.say(*sent)
        assert said.status == status, said
        assert MEDIA_TYPE in said.head
        assert b'"request_id":"req_' in said.body
        assert b"zzz" not in said.body
        times.append(f"{said.seconds:.3f} ({said.busy:.3f})")
        if min(said.seconds, said.busy) < MOST_SECONDS:
            return said
    raise AssertionError(f"never within {MOST_SECONDS} s: {times}")


@pytest.mark.parametrize("name", SIZES)
async def test_sizes(process: tuple[ApiProcess, bytes], name: str) -> None:
    """What is too large is refused before it is read, and the refusal arrives although the sender goes on."""
    parts, status = SIZES[name]
    await refused(process, parts, status)


@pytest.mark.parametrize("name", BODIES)
async def test_bodies(process: tuple[ApiProcess, bytes], name: str) -> None:
    """JSON that is none, or that two readers would understand in two ways, or that costs more than it says."""
    raw, status = BODIES[name]
    await refused(process, body(raw), status)


@pytest.mark.parametrize("name", HEADS)
async def test_heads(process: tuple[ApiProcess, bytes], name: str) -> None:
    """What a proxy before us might read as another request is no request, and its connection ends with it."""
    said = await refused(process, HEADS[name], 400)
    assert "connection: close" in said.head.lower() or name in ("two API keys", "two authorizations")


@pytest.mark.parametrize("kind", TYPES)
async def test_types(process: tuple[ApiProcess, bytes], kind: str) -> None:
    """A body is read only if it is called JSON, and nothing else besides."""
    head = HEAD.replace(b"application/json", kind.encode())
    await refused(process, (head + b"Content-Length: 2\r\n\r\n{}",), 415)


async def test_it_is_the_oddity_that_is_refused(process: tuple[ApiProcess, bytes]) -> None:
    """The same requests without it are served: chunks, a trailer, a body that has bare LFs and begins with a space, a pipeline."""
    running, secret = process
    ask = get(b"/v1/tools")[0].replace(KEY, secret)
    assert (await running.say(ask)).status == 200
    assert (await running.say(*(bytes([byte]) for byte in ask))).status == 200, "byte by byte"
    valid = b' {\n\t"messages":\n [{"role": "user", "content": "a\\nb"}],\n\n "tools": ["no-such"]}'
    for parts in (
        (*body(valid),),
        (HEAD + b"Content-Length: %d\r\n\r" % len(valid), b"\n" + valid),
        post(b"Transfer-Encoding: chunked", then=b"%x;a=b\r\n" % len(valid) + valid + b"\r\n0\r\nX-A: b\r\n\r\n"),
    ):
        said = await running.say(parts[0].replace(KEY, secret), *parts[1:])
        assert (said.status, b"unknown_tool" in said.body) == (422, True), said
    first = await running.say(ask + ask.replace(b"X-API-Key", b"X-A: a\nX-API-Key"))
    served = first.body.split(b"HTTP/1.1 ", 1)[0]  # what was sent behind it may have been answered by now
    assert (first.status, b'"tools"' in served, served.count(b"invalid_request")) == (200, True, 0)


async def test_memory_stays_flat(process: tuple[ApiProcess, bytes]) -> None:
    """After each of them once, again all of them and five times the largest leave the process as large as it was."""
    running, secret = process
    everything = (
        [parts for parts, _ in SIZES.values()] + [body(raw) for raw, _ in BODIES.values()] + list(HEADS.values())
    )

    async def say_all(times: int) -> None:
        for parts in everything:
            await running.say(parts[0].replace(KEY, secret), *parts[1:])
        for _ in range(times):
            for name in ("100 MB by its length", "100 MB in chunks", "a number of 99 MB"):
                parts, _status = SIZES[name]
                await running.say(parts[0].replace(KEY, secret), *parts[1:])

    await say_all(0)
    before = running.memory()
    await say_all(5)
    assert running.memory() - before < FLAT_BYTES
    assert running.memory("VmHWM") - before < FLAT_BYTES, "not for a moment either"
    assert running.process.returncode is None

    async def closed() -> bool:
        sockets = [
            entry for entry in Path(f"/proc/{running.process.pid}/fd").iterdir() if "socket" in str(entry.readlink())
        ]
        return len(sockets) < 30

    await wait_until(closed, "the connections to be closed", 15)
    log = running.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert "unhandled" not in log
