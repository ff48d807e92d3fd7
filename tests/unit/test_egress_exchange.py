"""What goes over the wire: redirects, deadlines, caps, packing, headers, and what the environment must not change."""

import asyncio
import gzip
import socket
import zlib

import pytest

from activities.egress.client import Egress
from activities.egress.messages import MAX_RESPONSE_BYTES, End, Request
from activities.egress.reasons import Failed, Failure, Refusal, Refused
from tests.fixtures_web import Web, answer, serving, web_with

URL = "http://example.org/"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "absolute"),
    [
        ("http://127.0.0.1/admin", "http://127.0.0.1/admin"),
        ("/next?x=1", "http://example.org/next?x=1"),
        ("//other.org/", "http://other.org/"),
        ("http://[broken", "http://[broken"),
    ],
)
async def test_redirects_are_reported_and_never_followed(status: int, location: str, absolute: str) -> None:
    """Proves that a redirect costs one connection and gives only the address that it names."""
    async with serving(answer(b"", f"Location: {location}", status=f"{status} Moved")) as site:
        web = web_with(site)
        response = await web.egress.send(Request(url=URL))
    assert (response.status, response.location) == (status, absolute)
    assert (len(web.dialler.dialled), site.connections) == (1, 1)


async def test_a_location_without_a_redirect_is_none() -> None:
    """Proves that 201 with a Location is not taken for a redirect."""
    async with serving(answer(b"", "Location: /made", status="201 Created")) as site:
        assert (await web_with(site).egress.send(Request(url=URL))).location is None


async def _expect(web: Web, reason: Failure, *, sent: bool, timeout: float = 5) -> None:
    with pytest.raises(Failed) as failed:
        await web.egress.send(Request(url=URL, timeout=timeout))
    assert (failed.value.reason, failed.value.sent) == (reason, sent)


async def test_a_slow_first_byte_ends_at_the_deadline() -> None:
    """Proves that a host that accepts and says nothing holds nobody longer than the limit, and is hung up on."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        await reader.read()

    async with serving(silent) as site:
        began = asyncio.get_running_loop().time()
        await _expect(web_with(site), Failure.TIMEOUT, sent=True, timeout=0.2)
        assert asyncio.get_running_loop().time() - began < 2
        async with asyncio.timeout(2):
            await site.gone.wait()


async def test_a_dripping_head_ends_at_the_deadline() -> None:
    """Proves that the limit is for the whole exchange: a byte now and then does not start it anew."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not reader.at_eof():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as site:
        await _expect(web_with(site), Failure.TIMEOUT, sent=True, timeout=0.3)


async def test_a_dripping_body_keeps_what_was_read() -> None:
    """Proves that the same limit holds in the body, and that what came until then is not lost."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"drop ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as site:
        response = await web_with(site).egress.send(Request(url=URL, timeout=0.3))
    assert response.end is End.DEADLINE
    assert response.body.startswith(b"drop drop ")


async def test_endless_informational_answers_end_at_the_deadline() -> None:
    """Proves that a host cannot stay in front of its answer for ever."""

    async def informs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        while not reader.at_eof():
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(informs) as site:
        await _expect(web_with(site), Failure.TIMEOUT, sent=True, timeout=0.3)


async def test_an_endless_body_stops_at_the_cap_and_hangs_up() -> None:
    """Proves that 50 KB are kept of a body without end, and that the connection is closed then."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()

    async with serving(endless) as site:
        response = await web_with(site).egress.send(Request(url=URL))
        async with asyncio.timeout(2):
            await site.gone.wait()
    assert (response.end, response.body) == (End.CAP, b"x" * MAX_RESPONSE_BYTES)


@pytest.mark.parametrize("size", [0, 1, 51199, 51200, 51201])
@pytest.mark.parametrize("packed", ["plain", "gzip", "deflate", "raw deflate"])
async def test_the_cap_is_exact_in_decoded_bytes(size: int, packed: str) -> None:
    """Proves that 50 KB pass whole and one byte more is cut, however the body is packed."""
    body = b"y" * size
    raw = zlib.compressobj(wbits=-15)
    wire, coding = {
        "plain": (body, "identity"),
        "gzip": (gzip.compress(body), "gzip"),
        "deflate": (zlib.compress(body), "deflate"),
        "raw deflate": (raw.compress(body) + raw.flush(), "deflate"),
    }[packed]
    async with serving(answer(wire, f"Content-Encoding: {coding}")) as site:
        response = await web_with(site).egress.send(Request(url=URL))
    assert response.body == body[:MAX_RESPONSE_BYTES]
    assert response.end is (End.CAP if size > MAX_RESPONSE_BYTES else End.COMPLETE)


async def test_a_bomb_makes_no_more_than_the_cap() -> None:
    """Proves that 100 MB out of 100 KB are never made: inflation itself stops at the cap."""
    async with serving(answer(gzip.compress(b"\0" * 100_000_000), "Content-Encoding: gzip")) as site:
        response = await web_with(site).egress.send(Request(url=URL))
    assert (response.end, len(response.body)) == (End.CAP, MAX_RESPONSE_BYTES)


async def test_bytes_that_unpack_to_nothing_are_bounded_too() -> None:
    """Proves that endless empty gzip members are cut off by what came over the wire."""

    async def empty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        while True:
            writer.write(gzip.compress(b"") * 100)
            await writer.drain()

    async with serving(empty) as site:
        response = await web_with(site).egress.send(Request(url=URL))
    assert (response.end, response.body) == (End.CAP, b"")


@pytest.mark.parametrize(
    ("starts", "goes_on", "sound"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 40_000 + b"\r\nx\r\n", True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
            b"X-Trailer: " + b"t" * 900 + b"\r\n",
            None,
        ),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, False),
        (b"", b"HTTP/1.1 100 Continue\r\nX: " + b"y" * 9000 + b"\r\n\r\n", False),
    ],
    ids=["chunk extensions", "trailers", "early hints", "continue"],
)
async def test_framing_counts_too(starts: bytes, goes_on: bytes, sound: bool | None) -> None:
    """Proves that a host cannot send for ever in what is no body: all that comes over the wire is bounded."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        nonlocal sent
        writer.write(starts)
        while True:
            writer.write(goes_on)
            await writer.drain()
            sent += len(goes_on)

    async with serving(endless) as site:
        if sound is False:
            await _expect(web_with(site), Failure.PROTOCOL, sent=True, timeout=30)
        else:
            response = await web_with(site).egress.send(Request(url=URL, timeout=30))
            assert response.body.strip(b"x") == b""
            assert response.end is (End.CAP if sound else End.BROKEN)
        async with asyncio.timeout(5):
            await site.gone.wait()
    assert sent < 20_000_000  # what the kernel's buffers took besides


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "x"])
async def test_packing_that_was_not_asked_for_is_not_unpacked(coding: str) -> None:
    """Proves that other codings, and codings in codings, give status and headers but no body."""
    async with serving(answer(b"abc", f"Content-Encoding: {coding}")) as site:
        response = await web_with(site).egress.send(Request(url=URL))
    assert (response.status, response.body, response.end) == (200, b"", End.UNKNOWN_ENCODING)


@pytest.mark.parametrize(
    ("wire", "kept"),
    [
        (answer(b"short", length=100), b"short"),
        (answer(gzip.compress(b"half of it" * 50)[:-9], "Content-Encoding: gzip"), b"half of it"),
        (answer(b"no gzip at all", "Content-Encoding: gzip"), b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n", b"hello"),
    ],
)
async def test_a_body_that_breaks_off_keeps_what_came(wire: bytes, kept: bytes) -> None:
    """Proves that a lying Content-Length, damaged data and a hung-up host are told, with what was read."""
    async with serving(wire) as site:
        response = await web_with(site).egress.send(Request(url=URL))
    assert response.end is End.BROKEN
    assert response.body[: len(kept)] == kept


async def test_a_content_length_that_says_too_little_ends_the_body_there() -> None:
    """Proves that bytes after the declared end are not taken for the body."""
    async with serving(answer(b"real" + b"HTTP/1.1 200 OK\r\n\r\nfake", length=4)) as site:
        response = await web_with(site).egress.send(Request(url=URL))
    assert (response.body, response.end) == (b"real", End.COMPLETE)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"+OK hello\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
async def test_what_is_no_http_is_a_failure(wire: bytes) -> None:
    """Proves that other protocols, no answer and unbounded heads give nothing to the caller."""
    async with serving(wire) as site:
        await _expect(web_with(site), Failure.PROTOCOL, sent=True)


async def test_headers_of_an_answer_are_bounded() -> None:
    """Proves that what is kept of a head that is just small enough for the parser is at most 50 headers, 16 KB."""
    many = [f"X-{n}: v" for n in range(500)]
    async with serving(answer(b"", *many)) as site:
        assert len((await web_with(site).egress.send(Request(url=URL))).headers) == 50
    async with serving(answer(b"", "X-Long: " + "a" * 20_000, "X-After: 1")) as site:
        response = await web_with(site).egress.send(Request(url=URL))
    assert response.header("x-long") is None
    assert response.header("content-length") == "0"


async def test_a_request_carries_its_body_and_only_its_own_headers() -> None:
    """Proves what is on the wire: our Host and framing, the caller's headers, nothing of the environment."""
    headers = (
        ("Host", "evil.org"),
        ("host", "evil.org"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "keep-alive, X-Own"),
        ("Metadata-Flavor", "Google"),
        ("X-aws-ec2-metadata-token", "x"),
        ("Proxy-Authorization", "Basic x"),
        ("Forwarded", "host=evil.org"),
        ("X-Forwarded-Host", "evil.org"),
        ("X-Original-URL", "/admin"),
        ("X-aliyun-ecs-metadata-token", "x"),
        ("Metadata-Token-Expiry-Seconds", "3600"),
        ("X-IDENTITY-HEADER", "x"),
        ("Accept-Encoding", "br"),
        ("User-Agent", "mine/1"),
        ("X-Own", " kept\t"),
    )
    async with serving(answer(b"")) as site:
        request = Request(url=URL, method="POST", headers=headers, body=b"a=1")
        response = await web_with(site).egress.send(request)
    head, _, body = site.requests[0].partition(b"\r\n\r\n")
    assert body == b"a=1"
    assert head.decode().split("\r\n") == [
        "POST / HTTP/1.1",
        "Host: example.org",
        "Accept: */*",
        "Accept-Encoding: gzip, deflate",
        "Connection: close",
        "Content-Length: 3",
        "User-Agent: mine/1",
        "X-Own: kept",
    ]
    assert set(response.dropped) == {name.lower() for name, _ in headers[:15]}


@pytest.mark.parametrize(
    "header",
    [
        ("X", "a\r\nHost: evil.org"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "a\0b"),
        ("X\r\nY", "a"),
        ("X: Y", "a"),
        ("", "a"),
        ("X Y", "a"),
        ("Ⅹ", "a"),
        ("X", "snow ☃"),
        ("X", "a\x7f"),
        ("X", "a\u2028b"),
        ("Host", "a\r\nb"),
    ],
)
async def test_headers_that_could_write_other_headers_are_refused(header: tuple[str, str]) -> None:
    """Proves that no name or value can end its line, also of a header that would be dropped."""
    async with serving(answer(b"")) as site:
        with pytest.raises(Refused) as refused:
            await web_with(site).egress.send(Request(url=URL, headers=(header,)))
    assert refused.value.reason is Refusal.HEADER
    assert site.connections == 0


@pytest.mark.parametrize("headers", [(("X", "a" * 17_000),), tuple((f"X-{n}", "a") for n in range(51))])
async def test_too_many_headers_are_refused(headers: tuple[tuple[str, str], ...]) -> None:
    """Proves the limits on what a caller may send along."""
    with pytest.raises(Refused) as refused:
        await web_with().egress.send(Request(url=URL, headers=headers))
    assert refused.value.reason is Refusal.HEADERS_TOO_LARGE


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "GET /x HTTP/1.1\r\n", ""])
async def test_other_methods_are_refused(method: str) -> None:
    """Proves that a method cannot open a tunnel or write a request line."""
    with pytest.raises(Refused) as refused:
        await web_with().egress.send(Request(url=URL, method=method))
    assert refused.value.reason is Refusal.METHOD


async def test_proxies_and_netrc_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Proves that no variable sends a request elsewhere or adds a password to it."""
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine example.org login me password secret\n")
    async with serving(answer(b"proxy")) as proxy, serving(answer(b"direct")) as site:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("NETRC", str(home / ".netrc"))
        response = await web_with(site).egress.send(Request(url=URL))
    assert response.body == b"direct"
    assert proxy.connections == 0
    assert b"authorization" not in site.requests[0].lower()


async def test_cookies_are_never_kept() -> None:
    """Proves that one call knows nothing of another: no jar, no kept connection."""
    async with serving(answer(b"", "Set-Cookie: a=b; Path=/")) as site:
        web = web_with(site)
        await web.egress.send(Request(url=URL))
        await web.egress.send(Request(url=URL))
    assert b"cookie" not in site.requests[1].lower()
    assert (site.connections, len(web.names.asked)) == (2, 2)


async def test_a_cancelled_call_hangs_up() -> None:
    """Proves that nothing of a call is left when its task is cancelled."""
    arrived = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        arrived.set()
        await reader.read()

    async with serving(silent) as site:
        task = asyncio.create_task(web_with(site).egress.send(Request(url=URL)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(2):
            await site.gone.wait()


async def test_the_systems_resolver_gives_strict_addresses_and_stops() -> None:
    """Proves the resolver that is used outside of tests, on the one name that needs no network."""
    egress = Egress()
    with pytest.raises(Refused) as refused:
        await egress.send(Request(url="http://localhost:8080/"))
    assert refused.value.reason is Refusal.ADDRESS
    await egress.close()


async def test_the_systems_connector_looks_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that dialling a literal address never asks a name server: what was checked is what is dialled."""

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("a name was looked up")

    async with serving(answer(b"demo")) as site:
        egress = Egress(exception=("127.0.0.1", site.port))
        monkeypatch.setattr(socket, "getaddrinfo", forbidden)
        assert (await egress.send(Request(url=f"http://127.0.0.1:{site.port}/"))).body == b"demo"
    await egress.close()
