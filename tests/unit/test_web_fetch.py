"""The tool `web_fetch`: what the model may say, what it is told, what a person sees, and what is known beforehand."""

import json
import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from activities.egress.client import Egress
from activities.tools.base import Call, Tool
from activities.tools.web_fetch import WebFetch, WebFetchArguments
from conductor_ai.contracts.tools import Category, Facts, ToolResult
from conductor_ai.errors import ToolUnavailable
from tests.fixtures_web import PUBLIC, Web, answer, serving, web_with

CALL = Call(org_id="org", session_id="s", call_id="call_7", run_id="r", attempt=1)
URL = "http://example.org/page"


def arguments(**given: Any) -> WebFetchArguments:
    """Arguments as they come from a model."""
    return WebFetchArguments.model_validate_json(json.dumps({"url": URL} | given))


async def fetch(web: Web, **given: Any) -> ToolResult:
    """Run the tool once."""
    return await WebFetch(web.egress).run(arguments(**given), CALL)


async def fetched(says: bytes, **given: Any) -> ToolResult:
    """Run the tool against a host that says this."""
    async with serving(says) as site:
        return await fetch(web_with(site), **given)


def data_of(result: ToolResult) -> dict[str, Any]:
    """The result's data, which is an object."""
    assert isinstance(result.data, dict)
    return result.data


def test_the_tool_is_a_tool_and_says_what_it_is() -> None:
    """Proves the spec that the model and the API see: category, no approval, a schema of exactly five fields."""
    tool: Tool[WebFetchArguments] = WebFetch(Egress())
    assert isinstance(tool, Tool)
    spec = tool.spec
    assert (spec.name, spec.category, spec.requires_approval) == ("web_fetch", Category.WEB, False)
    assert set(spec.parameters["properties"]) == {"url", "method", "headers", "body", "timeout"}  # type: ignore[arg-type]
    assert spec.parameters["required"] == ["url"]
    assert spec.parameters["additionalProperties"] is False


def test_defaults_are_filled_in() -> None:
    """Proves the defaults of the arguments."""
    assert arguments().model_dump() == {"url": URL, "method": "GET", "headers": {}, "body": None, "timeout": 30.0}


@pytest.mark.parametrize(
    "given",
    [
        {"method": "get"},
        {"method": "DELETE"},
        {"timeout": 0},
        {"timeout": 121},
        {"timeout": "30"},
        {"headers": {"a": 1}},
        {"headers": [["a", "b"]]},
        {"body": "x"},
        {"method": "POST", "body": {"a": 1}},
        {"url": ""},
        {"url": None},
        {"follow_redirects": True},
        {"headers": {f"h{n}": "" for n in range(51)}},
    ],
)
def test_other_arguments_are_refused(given: dict[str, Any]) -> None:
    """Proves that arguments are strict: nothing is guessed, nothing unknown is let through."""
    with pytest.raises(ValidationError):
        arguments(**given)


@pytest.mark.parametrize("timeout", [1, 1.5, 30, 120])
def test_the_limit_is_the_models_own(timeout: float) -> None:
    """Proves the range of the limit."""
    assert WebFetch(Egress()).timeout(arguments(timeout=timeout)) == timedelta(seconds=timeout)


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ({}, Facts(writes=False, host="example.org", replayable=True)),
        ({"method": "POST"}, Facts(writes=True, host="example.org", replayable=False)),
        ({"url": "https://EXAMPLE.org.:443/"}, Facts(writes=False, host="example.org", replayable=True)),
        ({"url": "https://münchen.DE/"}, Facts(writes=False, host="xn--mnchen-3ya.de", replayable=True)),
        ({"url": "http://[2A00::1]/"}, Facts(writes=False, host="2a00::1", replayable=True)),
        ({"url": "http://a@b/"}, Facts(writes=False, host=None, replayable=True)),
        ({"url": "nonsense"}, Facts(writes=False, host=None, replayable=True)),
    ],
)
def test_facts_are_those_of_the_request_that_would_be_made(given: dict[str, Any], facts: Facts) -> None:
    """Proves that the policy sees the host that would be asked, by the same parser, and that a POST writes."""
    assert WebFetch(Egress()).facts(arguments(**given)) == facts


async def test_a_page_comes_back_as_text_with_title_and_links() -> None:
    """Proves what the model gets of a page."""
    html = b"<title>Hello</title><h1>Hi</h1><p>Some <a href=/more>more</a> text.<script>x()</script>"
    result = await fetched(answer(html, "Content-Type: text/html; charset=utf-8"))
    assert result.ok
    assert result.error is None
    assert not result.truncated
    assert result.content == "Title: Hello\n\n# Hi\n\nSome more text.\n\nLinks:\n- more: http://example.org/more"
    data = data_of(result)
    assert (data["status"], data["kind"], data["title"]) == (200, "html", "Hello")
    assert data["links"] == [{"text": "more", "url": "http://example.org/more"}]


async def test_an_old_page_in_latin_1_with_broken_markup_is_read() -> None:
    """Proves that a page of the kind that people wrote by hand comes out right: no closing tags, no charset in the header."""
    html = """<META HTTP-EQUIV=content-type CONTENT="text/html; charset=iso-8859-1"><TITLE>Caf\u00e9</TITLE><BODY BGCOLOR=#fff>
    <CENTER><FONT SIZE=5><B>Willkommen</FONT></B></CENTER><P>F\u00fcr <I>alle<P>\u00c4rger & \u00d6l
    <UL><LI>eins<LI><A HREF=zwei.htm>zwei</UL><TABLE><TR><TD>K\u00e4se<TD>3 &euro;<TR><TD>\u201eQuark\u201c"""
    result = await fetched(answer(html.encode("cp1252"), "Content-Type: text/html"))
    assert result.content == (
        "Title: Caf\u00e9\n\nWillkommen\n\nF\u00fcr alle\n\n\u00c4rger & \u00d6l\n\n- eins\n- zwei\n\n"
        "K\u00e4se | 3 \u20ac\n\u201eQuark\u201c\n\nLinks:\n- zwei: http://example.org/zwei.htm"
    )


async def test_a_page_that_only_scripts_would_fill_is_said() -> None:
    """Proves that a page without text is no empty answer that looks like a failure."""
    html = b"<title>App</title><div id=root></div><script>start()</script>"
    result = await fetched(answer(html, "Content-Type: text/html"))
    assert result.ok
    assert result.content.startswith("Title: App\n\n(The page has no text of its own.")


@pytest.mark.parametrize(
    ("body", "media", "kind"),
    [
        (b'{"a":  [1, 2]}\n', "application/json", "json"),
        (b'{"a": 1}', "application/problem+json; charset=utf-8", "json"),
        (b"a,b\n1,2\n", "text/csv", "text"),
        (b"# Title\n<b>not html</b>", "text/markdown", "text"),
        (b"<feed/>", "application/atom+xml", "text"),
        ("Grüße".encode("latin-1"), "text/plain; charset=latin-1", "text"),
    ],
)
async def test_json_and_text_come_back_as_they_are(body: bytes, media: str, kind: str) -> None:
    """Proves that nothing is added to and nothing taken from text that programs may read."""
    result = await fetched(answer(body, f"Content-Type: {media}"))
    assert result.content == body.decode("latin-1")
    assert data_of(result)["kind"] == kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"  <!DOCTYPE html><p>Hi", "html"), (b"plain", "text"), (b"\x89PNG\0\0", "binary"), (b"", "empty")],
)
async def test_a_body_without_a_type_is_looked_at(body: bytes, kind: str) -> None:
    """Proves that a host that does not say what it sends is still read."""
    assert data_of(await fetched(answer(body)))["kind"] == kind


async def test_binary_is_described() -> None:
    """Proves that bytes never reach the model as text."""
    result = await fetched(answer(b"\x89PNG\r\n\x1a\n\0\0", "Content-Type: image/png"))
    assert result.ok
    assert result.content == "Binary content (image/png), 10 bytes read. It has no text form."


async def test_long_text_is_cut_and_said_so() -> None:
    """Proves that the cap is told, for text by the flag alone and for a page also in words."""
    text = await fetched(answer(b"x" * 60_000, "Content-Type: text/plain"))
    assert text.truncated
    assert text.content == "x" * 51_200
    page = await fetched(answer(b"<p>" + b"word " * 20_000, "Content-Type: text/html"))
    assert page.truncated
    assert page.content.endswith("[The body is longer than what is kept; the rest was not read.]")


async def test_nothing_unstorable_comes_out() -> None:
    """Proves that NUL is replaced in text and data: the store would refuse it for ever."""
    result = await fetched(answer(b"a\0b<title>\0</title>", "Content-Type: text/html", "ETag: x"))
    assert "\0" not in result.model_dump_json().encode().decode("unicode_escape", "ignore")
    plain = await fetched(answer(b"a\0b", "Content-Type: text/plain"))
    assert plain.content == "a\ufffdb"


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Internal Server Error", "599 Odd"])
async def test_an_error_of_the_host_is_a_result_with_its_text(status: str) -> None:
    """Proves that the model sees what a host says about an error, and can act on it."""
    result = await fetched(answer(b"sorry", "Content-Type: text/plain", "Retry-After: 7", status=status))
    assert not result.ok
    assert result.error is not None
    assert (result.error.code, result.content) == ("http_error", "sorry")
    assert result.error.message.startswith(f"The server answered {status[:3]}")
    assert data_of(result)["headers"]["retry-after"] == "7"


async def test_a_redirect_is_told_with_its_target() -> None:
    """Proves that the model learns where to go on, and goes only if it calls again."""
    result = await fetched(answer(b"<p>Moved", "Location: ../new", status="302 Found"), url="http://example.org/a/b/c")
    assert result.ok
    assert "302 Found and points to http://example.org/a/new\n" in result.content
    assert data_of(result)["location"] == "http://example.org/a/new"


@pytest.mark.parametrize("says", [answer(b"", status="204 No Content"), answer(b"", "Content-Type: text/html")])
async def test_an_answer_without_a_body_is_said(says: bytes) -> None:
    """Proves that the model is never given an empty text without a word."""
    result = await fetched(says)
    assert result.ok
    assert result.content.endswith(" without a body.")


async def test_an_encoding_that_was_not_asked_for_is_said() -> None:
    """Proves that status and reason are told when a body cannot be unpacked."""
    result = await fetched(answer(b"x", "Content-Encoding: br"))
    assert "compression that was not asked for" in result.content


async def test_a_post_carries_the_call_id_and_goes_out_once() -> None:
    """Proves that the host can tell a repetition, that a model cannot set that key, and that a body has a type."""
    async with serving(answer(b"done")) as site:
        web = web_with(site)
        headers = {"idempotency-key": "mine", "Idempotency-Key": "mine too", "X-A": "b"}
        await fetch(web, method="POST", body='{"a": 1}', headers=headers)
        await fetch(web, method="POST", body="plain ü")
        await fetch(web, method="POST", body="<a/>", headers={"content-type": "text/xml"})
        await fetch(web, method="POST")
        await fetch(web)
    heads = [request.decode().lower() for request in site.requests]
    assert [head.count("idempotency-key: call_7\r\n") for head in heads] == [1, 1, 1, 1, 0]
    assert not any("mine" in head for head in heads)
    assert "content-type: application/json\r\n" in heads[0]
    assert "content-type: text/plain; charset=utf-8\r\n" in heads[1]
    assert heads[1].endswith("plain ü")
    assert heads[2].count("content-type") == 1
    assert "content-length: 0\r\n" in heads[3]
    assert "content-length" not in heads[4]
    assert len(web.dialler.dialled) == 5


async def test_a_post_that_got_no_answer_is_not_sent_again() -> None:
    """Proves that a host that hangs up after reading is asked once only, and that the model is told so."""
    async with serving(b"") as site:
        result = await fetch(web_with(site), method="POST", body="x")
    assert site.connections == 1
    assert result.error is not None
    assert "treat its effect as unknown" in result.error.message


async def test_what_the_model_is_told_does_not_map_a_network() -> None:
    """Proves that an internal address, an internal name, a closed port, an open port without HTTP and no such name
    are one and the same answer."""
    results = []
    async with serving(b"SSH-2.0-OpenSSH_9.2\r\n", greets=True) as no_http, serving(b"") as hangs_up:
        internal = {"example.org": [["10.0.0.7"]]}
        mixed = {"example.org": [[PUBLIC, "10.0.0.7"]]}
        for web, url in (
            (web_with(), "http://127.0.0.1:8080/"),
            (web_with(), "http://169.254.169.254/"),
            (web_with(), "http://[::ffff:10.0.0.7]/"),
            (web_with(names=internal), URL),
            (web_with(names=mixed), URL),
            (web_with(names={}), URL),
            (web_with(), URL),
            (web_with(no_http), URL),
            (web_with(hangs_up), URL),
            (web_with(no_http), "https://example.org/"),
        ):
            results.append(await fetch(web, url=url))
    assert len({result.model_dump_json() for result in results}) == 1
    assert results[0].error is not None
    assert results[0].error.code == "unreachable"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"url": "ftp://example.org/"}, "invalid_url"),
        ({"url": "http://user:pw@example.org/"}, "invalid_url"),
        ({"url": "http://127.1/"}, "invalid_url"),
        ({"url": "http://example.org:22/"}, "not_allowed"),
        ({"url": "http://denied.org/"}, "not_allowed"),
        ({"headers": {"A": "b\r\nC: d"}}, "invalid_header"),
        ({"headers": {"A": "b" * 20_000}}, "invalid_header"),
    ],
)
async def test_a_request_that_is_refused_says_what_to_do(given: dict[str, Any], code: str) -> None:
    """Proves that refusals are results, and that a person who would be asked is not: preparing says the same."""
    web = web_with(deny_hosts=["denied.org"])
    result = await fetch(web, **given)
    assert result.error is not None
    assert (result.ok, result.error.code) == (False, code)
    consequence = await WebFetch(web.egress).prepare(arguments(**given), CALL)
    assert consequence.refused == result.error
    assert (web.names.asked, web.dialler.dialled) == ([], [])


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("says", [b"", b"220 mail.example.org", b"HTTP/1.1 200 OK\r\nX: "])
async def test_a_port_that_is_open_and_says_nothing_of_use_is_told_as_a_closed_one(
    method: str, says: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Proves that not even the time limit tells an open port from a closed one; the operator's log does."""

    async def silent(reader: Any, writer: Any, request: bytes) -> None:
        writer.write(says)
        await reader.read()

    closed = await fetch(web_with(), method=method)
    async with serving(silent) as site:
        with caplog.at_level("INFO", "activities.egress.client"):
            assert await fetch(web_with(site), timeout=1, method=method) == closed
    assert closed.error is not None
    assert closed.error.code == "unreachable"
    assert "within the time limit" in closed.error.message
    assert "no answer from example.org (timeout)" in caplog.text


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_only_a_get_asks_for_another_attempt_and_only_for_our_own_trouble(method: str) -> None:
    """Proves that a name server that is away makes a GET's attempt fail, and is a result for a POST."""

    async def resolve(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    tool = WebFetch(Egress(resolve=resolve))
    if method == "GET":
        with pytest.raises(ToolUnavailable, match="Nothing was sent"):
            await tool.run(arguments(), CALL)
    else:
        result = await tool.run(arguments(method="POST"), CALL)
        assert result.error is not None
        assert result.error.code == "unreachable"


async def test_a_person_sees_the_whole_request_and_hidden_characters_in_it() -> None:
    """Proves what is shown before a decision: host, address, headers as sent, body; nothing hidden, nobody asked."""
    web = web_with()
    given = arguments(
        url="http://EXAMPLE.org/pay?x=ü",
        method="POST",
        body="amount=1\u202e0",
        headers={"X-Note": "hi", "Host": "evil.org"},
    )
    consequence = await WebFetch(web.egress).prepare(given, CALL)
    shown = [(column.label, column.value) for column in consequence.evidence]
    assert consequence.summary == "Sends 12 bytes to example.org by POST, once."
    assert consequence.risk == "medium"
    assert ("host", "example.org") in shown
    assert ("address", "http://example.org/pay?x=%C3%BC") in shown
    assert ("encrypted", "no: others on the way can read it") in shown
    assert ("header", "X-Note: hi") in shown
    assert ("header", "Idempotency-Key: call_7") in shown
    assert ("header not sent", "host") in shown
    assert ("body", "amount=1⟨U+202E⟩0") in shown
    assert (web.names.asked, web.dialler.dialled) == ([], [])


async def test_a_read_is_shown_as_one_and_a_long_body_is_shortened() -> None:
    """Proves the consequence of a GET, and that a long body does not flood the person."""
    tool = WebFetch(web_with().egress)
    read = await tool.prepare(arguments(url="https://example.org:8443/"), CALL)
    assert (read.summary, read.risk) == ("Reads one address of example.org:8443.", "low")
    long = await tool.prepare(arguments(method="POST", body="x" * 50_000), CALL)
    assert len(next(column.value for column in long.evidence if column.label == "body")) <= 2048


async def test_the_model_gets_characters_as_they_are() -> None:
    """Proves that only people are shown hidden characters: the content is not changed."""
    result = await fetched(answer("a\u202eb".encode(), "Content-Type: text/plain; charset=utf-8"))
    assert result.content == "a\u202eb"


async def test_headers_that_were_not_sent_are_told() -> None:
    """Proves that the model learns which of its headers did not go out."""
    result = await fetched(answer(b"x"), headers={"Host": "evil.org", "Connection": "close", "X": "y"})
    assert data_of(result)["headers_not_sent"] == ["host", "connection"]


async def test_what_became_of_a_lost_call_cannot_be_known() -> None:
    """Proves that the tool does not pretend to know the outcome of a call whose worker died."""
    tool = WebFetch(Egress())
    assert await tool.outcome(CALL) is None
    await tool.close()
