"""Bodies of every odd kind are 4xx and never 500, and nothing of them comes back in an error."""

import asyncio
import json
import logging

import httpx
import pytest
import uvicorn

from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine
from tests.fixtures_api import HELLO, Api, is_problem, serving
from tests.fixtures_servers import wait_until

RUN = "/v1/agents/run"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'messages': []}",
        b'{"messages": NaN}',
        b'{"messages": [], "max_steps": Infinity}',
        b'{"max_steps": 1e999}',
        b'{"max_steps": ' + b"9" * 5000 + b"}",
        b'{"max_steps": 1, "max_steps": 2}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"metadata": {"a":' + b"[" * 900 + b"]" * 900 + b"}}",
        b"\xff\xfe{",
        b'{"messages": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
    ],
    ids=range(14),
)
async def test_what_is_no_json(api: Api, raw: bytes) -> None:
    """Broken, ambiguous or endless JSON is refused as such."""
    answer = await api.post(RUN, content=raw, headers=JSON)
    assert answer.status_code in (400, 422)
    is_problem(answer, answer.status_code, "invalid_request")


async def test_text_that_cannot_be_stored(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """U+0000 and lone surrogates are replaced wherever text may stand; the session starts."""
    raw = (
        b'{"messages": [{"role": "user", "content": "a\\u0000b\\ud800c"}], "title": "t\\u0000\\udfff", '
        b'"system_prompt": "\\u0000s", "metadata": {"k\\u0000": "v\\ud83d"}}'
    )
    answer = await api.post(RUN, content=raw, headers={**JSON, "Idempotency-Key": "text"})
    assert answer.status_code == 202, answer.text
    shown = (await api.get(answer.json()["poll_url"])).json()
    assert shown["title"] == "t\ufffd\ufffd"
    assert shown["metadata"] == {"k\ufffd": "v\ufffd"}
    async with api.deps.database.connection() as connection:
        body = await connection.fetchval(
            "SELECT body FROM conductor.messages WHERE session_id = $1", shown["session_id"]
        )
    assert body == "a\ufffdb\ufffdc"
    monkeypatch.setattr("api.agents_cancel.WAIT_SECONDS", 0.0)
    cancel = await api.post(answer.json()["poll_url"] + "/cancel", content=b'{"reason": "\\u0000"}', headers=JSON)
    assert cancel.status_code == 202


async def test_nothing_is_echoed(api: Api) -> None:
    """Values that were sent do not come back, nor names of fields that hold more than a name."""
    secret = "ck_swordfish!"
    for body in (
        {**HELLO, "max_steps": secret},
        {**HELLO, "tools": [secret]},
        {**HELLO, "model": secret},
        {**HELLO, secret: 1},
        {**HELLO, "ck_swordfish0123456789": 1},
        {**HELLO, "swordfish-key-1": {"swordfish-key-2": 1}},
        {"messages": [{"role": secret, "content": secret, secret: secret}]},
        {**HELLO, "metadata": {secret: {"x": 1}}},
    ):
        answer = await api.post(RUN, body)
        assert answer.status_code == 422
        assert "swordfish" not in answer.text
    for url in (f"/v1/agents/{secret}", f"/v1/agents?status={secret}", f"/{secret}", f"/v1/tools/{secret}"):
        answer = await api.get(url)
        assert answer.is_client_error
        assert "swordfish" not in answer.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
async def test_other_media_types(api: Api, kind: str) -> None:
    """Only JSON is read: what a plain HTML form can send is refused."""
    answer = await api.post(RUN, content=json.dumps(HELLO), headers={"Content-Type": kind})
    is_problem(answer, 415, "unsupported_media_type")


async def test_json_with_a_charset(api: Api) -> None:
    """Parameters of the media type are no obstacle."""
    answer = await api.post(RUN, content=json.dumps(HELLO), headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 202


async def test_limit_by_length(api: Api) -> None:
    """A body that says it is too large is refused before it is read; one below the limit is taken."""
    text = "x" * (api.deps.settings.max_body_bytes - 100)
    assert (await api.post(RUN, {"messages": [{"role": "user", "content": text}]})).status_code == 202
    is_problem(await api.post(RUN, {"messages": [{"role": "user", "content": text + text}]}), 413, "body_too_large")


async def test_limit_while_reading(api: Api) -> None:
    """A body without a length is counted as it comes."""
    sent = 0

    async def stream() -> object:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 50_000

    answer = await api.post(RUN, content=stream(), headers=JSON)
    is_problem(answer, 413, "body_too_large")
    assert sent < 30


async def test_odd_lengths(api: Api) -> None:
    """A length that is no number, or endless, is refused."""
    for length, status in (("x", 400), ("-1", 400), ("9" * 50, 413)):
        answer = await api.post(RUN, content=b"{}", headers={**JSON, "Content-Length": length})
        assert answer.status_code == status


async def test_over_a_socket(database: Database, standing_in: Engine, hot: Hot, api: Api) -> None:
    """The same limits hold on a real server: the answer comes before a body that will never be sent in full."""
    async with serving(database, standing_in, hot) as inner:
        transport = inner.http._transport
        assert isinstance(transport, httpx.ASGITransport)
        server = uvicorn.Server(
            uvicorn.Config(transport.app, host="127.0.0.1", port=0, lifespan="off", log_level="critical")
        )
        running = asyncio.create_task(server.serve())

        async def started() -> bool:
            return server.started

        await wait_until(started, "the server")
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST {RUN} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            secret = next(iter(inner.secrets.values()))
            writer.write(f"{head}X-API-Key: {secret}\r\nContent-Length: 99999999\r\n\r\n{{".encode())
            assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                started_one = await http.post(
                    RUN, json=HELLO, headers={"X-API-Key": inner.secrets[next(iter(inner.secrets))]}
                )
                assert started_one.status_code == 403  # the first key is a viewer's
        finally:
            server.should_exit = True
            await running


async def test_request_ids(api: Api) -> None:
    """Every response has one; a sane one of the caller's is kept, any other replaced."""
    mine = "trace-0123456789"
    assert (await api.get("/v1/tools", headers={"X-Request-ID": mine})).headers["x-request-id"] == mine
    for odd in ("short", "x" * 200, "has space in it", "sla/sh/0123"):
        given = (await api.get("/v1/tools", headers={"X-Request-ID": odd})).headers["x-request-id"]
        assert given.startswith("req_")
    body = is_problem(await api.get("/nowhere", headers={"X-Request-ID": mine}), 404, "not_found")
    assert body["request_id"] == mine


async def test_methods_and_addresses(api: Api) -> None:
    """A wrong method says which are right; an unknown address is a 404 like any other, also with a slash too many."""
    answer = await api.post("/v1/tools", {})
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"
    for url in ("/v1/nothing", "/v1/tools/", "/v1/agents/", "/%00"):
        is_problem(await api.get(url), 404, "not_found")


async def test_what_nobody_foresaw(api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is a 500 without a word of its text; the log has it under the request's id."""

    async def broken() -> None:
        raise RuntimeError("postgresql://user:swordfish@db/x")

    monkeypatch.setattr(api.deps.tools, "published", broken)
    with caplog.at_level(logging.ERROR):
        answer = await api.get("/v1/tools", headers={"X-Request-ID": "unforeseen-1"})
    is_problem(answer, 500, "internal")
    assert "swordfish" not in answer.text
    assert "unforeseen-1" in caplog.text
