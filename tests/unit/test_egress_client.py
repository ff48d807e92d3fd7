"""The egress client against hosts on loopback: what is dialled, what is sent, and where every answer ends."""

import asyncio
import logging
import socket
from collections.abc import Sequence

import httpcore
import pytest

from activities.egress.client import Egress
from activities.egress.messages import End, Request
from activities.egress.reasons import Failed, Failure, Refusal, Refused
from tests.fixtures_web import OTHER_PUBLIC, PUBLIC, PUBLIC_V6, answer, serving, web_with

URL = "http://example.org/"


async def test_the_checked_address_is_dialled_with_the_original_host() -> None:
    """Proves that the name is looked up once, its address dialled, and the name sent as Host."""
    async with serving(answer(b"hello")) as site:
        web = web_with(site)
        response = await web.egress.send(Request(url="http://Example.ORG:8080/a?b=c#d"))
    assert (response.status, response.body, response.end) == (200, b"hello", End.COMPLETE)
    assert response.url == "http://example.org:8080/a?b=c"
    assert web.names.asked == ["example.org"]
    assert web.dialler.dialled == [(PUBLIC, 8080)]
    assert site.requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\nHost: example.org:8080\r\n")


async def test_a_literal_public_address_needs_no_look_up() -> None:
    """Proves that an address in a URL is dialled as it is, in IPv4 and in IPv6."""
    async with serving(answer(b"ok")) as site:
        web = web_with(site)
        await web.egress.send(Request(url=f"http://{PUBLIC}/"))
        await web.egress.send(Request(url=f"http://[{PUBLIC_V6.upper()}]/"))
    assert web.names.asked == []
    assert web.dialler.dialled == [(PUBLIC, 80), (PUBLIC_V6, 80)]
    assert f"Host: [{PUBLIC_V6}]\r\n".encode() in site.requests[1]


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["10.1.2.3", PUBLIC],
        [PUBLIC, OTHER_PUBLIC, "::1"],
        [PUBLIC, "::ffff:8.8.8.8"],
        [PUBLIC, "168.63.129.16"],
        [PUBLIC, "fe80::1%eth0"],
        [PUBLIC, "not an address"],
        ["0.0.0.0"],
        ["64:ff9b::7f00:1"],
        [*([PUBLIC] * 40), "192.168.0.1"],
    ],
)
async def test_one_bad_answer_among_many_refuses_the_name(answers: list[str]) -> None:
    """Proves that a name is refused if any of its addresses is, and that then nothing is dialled."""
    async with serving(answer(b"secret")) as site:
        web = web_with(site, {"example.org": [answers]})
        with pytest.raises(Refused) as refused:
            await web.egress.send(Request(url=URL))
    assert refused.value.reason is Refusal.ADDRESS
    assert web.dialler.dialled == []
    assert site.connections == 0


async def test_a_name_that_changes_its_mind_is_asked_only_once() -> None:
    """Proves that rebinding gets nowhere: the second, private answer is never asked for within a call."""
    async with serving(answer(b"public")) as site:
        web = web_with(site, {"example.org": [[PUBLIC], ["127.0.0.1"]]})
        response = await web.egress.send(Request(url=URL))
        assert response.body == b"public"
        assert web.names.asked == ["example.org"]
        assert web.dialler.dialled == [(PUBLIC, 80)]
        with pytest.raises(Refused):
            await web.egress.send(Request(url=URL))
    assert web.dialler.dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1/", Refusal.ADDRESS),
        ("http://[::1]:8080/", Refusal.ADDRESS),
        ("http://169.254.169.254/latest/meta-data/", Refusal.ADDRESS),
        ("http://[::ffff:127.0.0.1]/", Refusal.ADDRESS),
        ("http://0x7f.1/", Refusal.NUMERIC_HOST),
        ("http://example.org:22/", Refusal.PORT),
        ("http://example.org:7999/", Refusal.PORT),
        ("http://example.org:9001/", Refusal.PORT),
        ("https://example.org:6379/", Refusal.PORT),
    ],
)
async def test_what_the_url_alone_gives_away_is_refused_without_a_look_up(url: str, reason: Refusal) -> None:
    """Proves that literal internal addresses and other ports are refused before anybody is asked."""
    web = web_with()
    with pytest.raises(Refused) as refused:
        await web.egress.send(Request(url=url))
    assert refused.value.reason is reason
    assert (web.names.asked, web.dialler.dialled) == ([], [])


@pytest.mark.parametrize("port", [80, 443, 8000, 8443, 9000])
def test_usual_ports_are_allowed(port: int) -> None:
    """Proves that the default list of ports has its edges where it says."""
    assert web_with().egress.check(f"http://example.org:{port}/").port == port


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://good.org/", None),
        ("http://GOOD.org./", None),
        ("http://a.wide.org/", None),
        ("http://a.b.wide.org/", None),
        ("http://wide.org/", Refusal.HOST_NOT_ALLOWED),
        ("http://notwide.org/", Refusal.HOST_NOT_ALLOWED),
        ("http://good.org.evil.org/", Refusal.HOST_NOT_ALLOWED),
        ("http://bad.wide.org/", Refusal.HOST_DENIED),
        ("http://xn--mnchen-3ya.de/", None),
        ("http://8.8.8.8/", Refusal.HOST_NOT_ALLOWED),
    ],
)
def test_host_lists_hold_and_deny_wins(url: str, reason: Refusal | None) -> None:
    """Proves the optional lists: exact names, subdomains by a leading dot, any spelling, deny before allow."""
    egress = web_with(allow_hosts=["Good.org", ".wide.org", "münchen.de"], deny_hosts=["bad.wide.org."]).egress
    if reason is None:
        egress.check(url)
        return
    with pytest.raises(Refused) as refused:
        egress.check(url)
    assert refused.value.reason is reason


async def test_the_development_exception_is_one_literal_address_and_port(caplog: pytest.LogCaptureFixture) -> None:
    """Proves that exactly the named page is reachable, and that its use is logged."""
    async with serving(answer(b"demo page")) as site:
        names = {"demo.example.org": [["127.0.0.1"]]}
        web = web_with(site, names, exception=("127.0.0.1", site.port))
        egress = Egress(exception=("127.0.0.1", site.port))
        with caplog.at_level(logging.INFO, "activities.egress.client"):
            response = await egress.send(Request(url=f"http://127.0.0.1:{site.port}/"))
        await egress.close()
        assert response.body == b"demo page"
        assert f"127.0.0.1:{site.port}, the exception" in caplog.text
        others = (
            "127.0.0.1",
            "127.0.0.2:{}",
            "[::1]:{}",
            "[::ffff:127.0.0.1]:{}",
            "localhost:{}",
            "demo.example.org:{}",
        )
        for host in others:
            with pytest.raises((Refused, Failed)):
                await web.egress.send(Request(url=f"http://{host.format(site.port)}/"))
    assert web.dialler.dialled == []


async def test_the_next_address_is_tried_when_one_does_not_accept() -> None:
    """Proves that a name with a dead address still works, in order, over one connection."""
    async with serving(answer(b"ok")) as site:
        web = web_with(site, {"example.org": [["99.88.77.66", PUBLIC, OTHER_PUBLIC]]})
        assert (await web.egress.send(Request(url=URL))).body == b"ok"
    assert web.dialler.dialled == [("99.88.77.66", 80), (PUBLIC, 80)]
    assert site.connections == 1


async def test_an_address_that_swallows_everything_does_not_use_up_the_time_of_the_next() -> None:
    """Proves that each address gets its share of the time, so that a black hole in front is survived."""
    async with serving(answer(b"ok")) as site:
        dialled: list[str] = []

        async def connect(address: str, port: int) -> httpcore.AsyncNetworkStream:
            dialled.append(address)
            if address == PUBLIC:
                await asyncio.Event().wait()
            return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", site.port)

        async def resolve(host: str) -> Sequence[str]:
            return [PUBLIC, OTHER_PUBLIC]

        egress = Egress(resolve=resolve, connect=connect)
        assert (await egress.send(Request(url=URL, timeout=0.6))).body == b"ok"
    assert dialled == [PUBLIC, OTHER_PUBLIC]


async def test_a_host_that_accepts_nowhere_is_a_failure_before_anything_was_sent() -> None:
    """Proves that a closed port is told apart, for the caller, from a request that may have arrived."""
    with pytest.raises(Failed) as failed:
        await web_with().egress.send(Request(url=URL))
    assert (failed.value.reason, failed.value.sent) == (Failure.CONNECT, False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), Failure.RESOLVE),
        (socket.gaierror(socket.EAI_AGAIN, "x"), Failure.RESOLVER_AWAY),
        (OSError("x"), Failure.RESOLVER_AWAY),
        (TimeoutError(), Failure.TIMEOUT),
        (None, Failure.RESOLVE),
    ],
)
async def test_a_name_without_an_address_is_an_error_and_no_pass(error: Exception | None, reason: Failure) -> None:
    """Proves that nothing is dialled when the look-up fails or gives nothing, and that the reasons are sorted."""
    web = web_with()

    async def resolve(host: str) -> Sequence[str]:
        if error is not None:
            raise error
        return []

    with pytest.raises(Failed) as failed:
        await Egress(resolve=resolve, connect=web.dialler).send(Request(url=URL))
    assert (failed.value.reason, failed.value.sent) == (reason, False)
    assert web.dialler.dialled == []


async def test_this_machines_own_trouble_is_told_apart() -> None:
    """Proves that running out of sockets is our trouble, worth another attempt, and not the host's."""

    async def connect(address: str, port: int) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("x") from OSError(24, "Too many open files")

    web = web_with()
    with pytest.raises(Failed) as failed:
        await Egress(resolve=web.names, connect=connect).send(Request(url=URL))
    assert failed.value.reason is Failure.LOCAL
    assert failed.value.reason.infrastructure
