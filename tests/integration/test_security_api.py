"""Attacks on the REST API: other organisations' things, forged decisions, bodies and connections meant to hurt."""

import asyncio
import base64
import itertools
import json
import logging
import string
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis.asyncio

from api import bodies
from api.problems import Refused
from api.requests import DecisionBody, RunRequest
from conductor_ai.stores.access import Role
from tests.fixtures_api import HELLO, Api, example_body, is_problem, routes
from tests.fixtures_socket import listening
from tests.timing import usual_ms

RUN = "/v1/agents/run"
JSON = {"Content-Type": "application/json"}


async def a_grant(api: Api) -> str:
    """The id of a grant of this organisation."""
    approval = await api.hand.ask(await api.start())
    given = {"decision": "approve", "arguments_sha256": approval["arguments_sha256"], "remember": {}}
    assert (await api.post(f"/v1/approvals/{approval['id']}/decision", given)).is_success
    return str((await api.get("/v1/grants")).json()["data"][0]["id"])


def same_but_for_the_request(one: httpx.Response, other: httpx.Response) -> bool:
    """Whether two problems tell a caller the same."""
    odd = {"instance": "", "request_id": ""}
    return (one.status_code, {**one.json(), **odd}) == (other.status_code, {**other.json(), **odd})


async def test_another_organisations_things_on_every_route(api: Api, redis_url: str) -> None:
    """Each documented route, with a foreign admin's key: the answer is that for an id that never was, and holds nothing
    of it; with warm copies in Redis, and with none."""
    session_id = await api.start(title="canary-title")
    approval = await api.hand.ask(session_id)
    other = await api.other()
    body = {"decision": "approve", "arguments_sha256": approval["arguments_sha256"]}
    ids = {"session_id": session_id, "approval_id": approval["id"], "call_id": approval["call_id"]}
    grant_id = await a_grant(api)
    ids |= {"step_id": approval["call_id"], "grant_id": grant_id}
    never = {name: value[: value.index("_") + 1] + "0" * 32 for name, value in ids.items()}
    assert (await api.get(f"/v1/agents/{session_id}")).is_success  # Leaves a copy.
    for _ in range(2):
        for method, path in await routes(api):
            content = json.dumps(body) if path.endswith("/decision") else await example_body(api, method, path)
            asked: dict[str, Any] = {"headers": {**other.as_(Role.ADMIN), **JSON}, "content": content}
            if not any(f"{{{name}}}" in path for name in ids):
                if method == "GET" and "{" not in path:
                    seen = await api.http.request(method, f"{path}", **asked)
                    assert "canary" not in seen.text
                    assert session_id not in seen.text
                continue
            theirs = await api.http.request(method, path.format(**ids), **asked)
            nobodys = await api.http.request(method, path.format(**never), **asked)
            is_problem(theirs, 404, "not_found")
            assert same_but_for_the_request(theirs, nobodys), path
        listed = await other.get("/v1/approvals", params={"session_id": session_id})
        assert listed.json()["data"] == []
        async with redis.asyncio.Redis.from_url(redis_url) as copies:
            await copies.flushall()
    for odd in (session_id.upper(), session_id.title(), f"{session_id} ", f"{session_id}%00", f"%20{session_id}"):
        is_problem(await other.get(f"/v1/agents/{odd}"), 404, "not_found")
    assert (await api.get(f"/v1/agents/{session_id}")).json()["phase"] == "awaiting_approval"


async def test_a_foreign_cursor_opens_nothing(api: Api) -> None:
    """A cursor is a place in time: in another organisation's hands it lists only that one's own sessions."""
    for _ in range(2):
        await api.start()
    cursor = (await api.get("/v1/agents", params={"limit": 1})).json()["next_cursor"]
    other = await api.other()
    assert (await other.get("/v1/agents", params={"cursor": cursor})).json()["data"] == []


async def test_keys_of_idempotency_do_not_cross_organisations(api: Api) -> None:
    """The same key and body of another organisation starts that one's own session."""
    headers = {"Idempotency-Key": "shared"}
    other = await api.other()
    first, second = await api.post(RUN, HELLO, headers=headers), await other.post(RUN, HELLO, headers=headers)
    assert first.json()["session_id"] != second.json()["session_id"]
    assert "idempotency-replayed" not in second.headers
    is_problem(await other.get(f"/v1/agents/{first.json()['session_id']}"), 404, "not_found")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_deciding_needs_the_role(api: Api, role: Role) -> None:
    """Whoever may only look or start cannot decide, whatever the body claims; nothing is decided by it."""
    approval = await api.hand.ask(await api.start())
    is_problem(await api.decide(approval, role=role), 403, "forbidden")
    assert (await api.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "pending"


@pytest.mark.parametrize(
    "more",
    [{"by": "somebody"}, {"via": "api"}, {"verified": True}, {"decision_id": "x"}, {"call_id": "x"}, {"at": "now"}],
)
async def test_who_decided_is_not_told_by_the_body(api: Api, more: dict[str, Any]) -> None:
    """Fields that would say who, when or about what are refused; the decision then made names the key."""
    approval = await api.hand.ask(await api.start())
    is_problem(await api.decide(approval, **more), 422, "invalid_request")
    decided = await api.decide(approval, role=Role.APPROVER, headers={"X-Forwarded-User": "boss", "X-Org-ID": "x"})
    counted = decided.json()["decisions"][0]
    assert counted["verified"] is True
    assert counted["by"].startswith("approver of ")


async def test_a_decision_is_about_what_was_seen(api: Api) -> None:
    """The digest of another call, of other letters or none decides nothing; nor does the decision for another approval."""
    session_id = await api.start()
    one, other = await api.hand.ask(session_id), await api.hand.ask(await api.start())
    for digest in ("", "0" * 64, one["arguments_sha256"].upper(), one["arguments_sha256"][:-1]):
        is_problem(await api.decide({**one, "arguments_sha256": digest}), 412, "digest_mismatch")
    assert (await api.decide(one)).json()["status"] == "approved"
    assert (await api.get(f"/v1/approvals/{other['id']}")).json()["status"] == "pending"


def body_of_many(kind: str) -> bytes:
    """Bodies of a megabyte whose refusal took seconds."""
    many: dict[str, Any] = {
        "unknown fields": {f"k{i}": 1 for i in range(80_000)},
        "metadata": {**HELLO, "metadata": {f"k{i}": [1] for i in range(70_000)}},
        "messages": {"messages": [{f"k{i}": 1 for i in range(100)} for _ in range(1_000)]},
        "lists": {"a": [[]] * 330_000},
        "numbers": {"a": [1.5] * 240_000},
        "tools": {**HELLO, "tools": [1] * 400_000},
    }
    if kind == "digits":
        return b"[" + b",".join([b"9" * 4200] * 230) + b"]"
    return json.dumps(many[kind], separators=(",", ":")).encode()[:1_000_000]


@pytest.mark.parametrize("model", [RunRequest, DecisionBody])
@pytest.mark.parametrize("kind", ["unknown fields", "metadata", "messages", "lists", "numbers", "tools", "digits"])
def test_a_refusal_is_quick(kind: str, model: Callable[..., Any]) -> None:
    """A body made of a million mistakes is refused before they are counted: no other request waits for it."""
    raw = body_of_many(kind)

    def refuse() -> None:
        with pytest.raises(Refused):
            bodies._received(model, raw)  # type: ignore[arg-type]

    assert usual_ms(refuse) < 100


async def test_text_is_not_taken_for_structure(api: Api) -> None:
    """A message full of commas, brackets and escaped quotes is text, however long."""
    text = '{"a": [1, 2, 3, "\\"]}, ' * 20_000
    assert (await api.post(RUN, {"messages": [{"role": "user", "content": text}], "tools": []})).status_code == 202
    largest = [{"role": "user", "content": "x"}] * 1000
    assert (await api.post(RUN, {"messages": largest, "tools": [], "metadata": {}})).status_code == 202


async def test_a_query_of_thousands_is_refused(api: Api) -> None:
    """Before anybody looks at its parameters, and without repeating one."""
    names = ["".join(letters) for letters in itertools.product(string.ascii_letters, repeat=3)]
    before = time.process_time()
    answer = await api.get(f"/v1/agents?{'&'.join(names[:15_000])}")
    assert time.process_time() - before < 0.5
    is_problem(answer, 414, "invalid_request")


@pytest.mark.parametrize("url", ["/v1/agents", "/v1/approvals"])
@pytest.mark.parametrize(
    "at",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00",
        5,
        None,
    ],
)
async def test_cursors_at_the_end_of_the_calendar(api: Api, url: str, at: Any) -> None:
    """A time that cannot be moved into another zone is no cursor of ours, and no fault of the server."""
    cursor = base64.urlsafe_b64encode(json.dumps([at, "sess_" + "0" * 32]).encode()).decode()
    is_problem(await api.get(url, params={"cursor": cursor}), 422, "invalid_request")


ODD = (
    b"", b"null", b"0", b'"x"', b"[]", b"{}", b"\x00", b'{"\\u0000": "\\ud800"}', b'{"messages": {}}', b'{"a": 1e400}',
    b'{"messages": [null]}', b"[" * 10_000, b'{"' + b"k" * 900_000 + b'": 1}', b'{"a": 1, "a": 2}', b'{"a": -0.0, "b": -1}',
    b'{"arguments_sha256": "\\u0000", "decision": "approve"}', b'{"reason": 5}', b'{"reason": "\\ud800\\u0000"}',
    b"\xff\xfe\x00{", b"{}{}", b"{} //", b'{"max_steps": -1}', b'{"limits": {"deadline_seconds": 99999999999999999999}}',
)  # fmt: skip


async def test_nothing_makes_it_a_fault_of_the_server(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every route, with odd bodies, types, tags, waits and ids: never 5xx, and nothing for the log of errors."""
    monkeypatch.setattr("api.agents_cancel.WAIT_SECONDS", 0.0)
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    ids = {"session_id": session_id, "approval_id": approval["id"], "name": "web_fetch", "model_id": "demo"}
    ids |= {"step_id": "1", "grant_id": "grant_" + "0" * 32, "key_id": "key_" + "0" * 32}
    queries = (
        "wait=-1", "wait=nan", "since_version=-1", "steps_after=1e3", f"since_version={'9' * 30}", "limit=%F0%9F%98%80",
        "cursor=%00", "cursor=====", f"cursor={'A' * 499}", "cursor=%ff%fe", "status=%00", "model=%ed%a0%80%00", "&&&=&=",
        "session_id=%00%ff", "category=%0a", "wait=0&wait=0", "%00=%00",
    )  # fmt: skip
    headers: tuple[dict[str, str], ...] = (
        {"If-None-Match": '"' * 5000}, {"If-None-Match": 'W/"999999999999999999", "x", *'}, {"If-None-Match": "\x80\xff"},
        {"Idempotency-Key": "\x80"}, {"Idempotency-Key": "x" * 300}, {"X-Request-ID": "x" * 5000}, {"Content-Encoding": "gzip"},
        {"Range": "bytes=0-1"}, {"Content-Type": "application/json; charset=utf-16"}, {"Accept": "text/html"},
    )  # fmt: skip
    with caplog.at_level(logging.ERROR):
        for method, path in await routes(api):
            if path.endswith("/stream"):
                continue  # It would go on until the session ends; see test_api_stream.py.
            url = path.format(**ids)
            sent: list[tuple[str, dict[str, str], bytes]] = (
                [(url, {}, raw) for raw in ODD]
                if method == "POST"
                else [(f"{url}?{query}", {}, b"") for query in queries]
            )
            sent += [(url, one, b"{}" if method == "POST" else b"") for one in headers]
            for address, extra, raw in sent:
                raw_headers = [
                    (name.encode(), value.encode("latin-1"))
                    for name, value in {**api.as_(Role.ADMIN), **JSON, **extra}.items()
                ]
                answer = await api.http.request(method, address, content=raw, headers=raw_headers)
                assert answer.status_code < 500, (method, address, extra, raw[:80], answer.text)
                assert "Traceback" not in answer.text
    assert not caplog.records


async def test_other_origins_are_told_nothing(api: Api) -> None:
    """No preflight is answered with leave, and no answer names an origin that may read it."""
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method, path in (("OPTIONS", RUN), ("GET", "/v1/agents"), ("GET", "/health"), ("GET", "/openapi.json")):
        answer = await api.http.request(method, path, headers={**origin, **api.as_(Role.ADMIN)})
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "set-cookie" not in answer.headers
    assert (await api.http.request("OPTIONS", RUN, headers=origin)).status_code == 405


async def test_only_the_hash_of_a_key_is_kept(api: Api) -> None:
    """No row of the database holds a key."""
    async with api.deps.database.connection() as connection:
        rows = await connection.fetch("SELECT to_jsonb(k)::text AS row FROM conductor.api_keys k")
    assert not [row for row in rows for secret in api.secrets.values() if secret in row["row"]]


async def test_a_head_that_never_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent connections are closed. One that has sent a part, or goes on to send a byte now and then, hears why, and no reset
    takes the answer from it. Others are served meanwhile."""
    monkeypatch.setattr("api.connections.HEAD_SECONDS", 0.5)
    async with listening(api) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        silent, begun = held[::2], held[1::2]
        for _, writer in begun:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ")

        async def drip() -> None:
            while True:
                for _, writer in begun[::2]:
                    writer.write(b"x")
                await asyncio.sleep(0.001)

        dripping = asyncio.create_task(drip())
        try:
            assert (await http.get("/livez")).status_code == 200
            async with asyncio.timeout(10):
                closed, told = await asyncio.gather(
                    *(asyncio.gather(*(reader.read() for reader, _ in each)) for each in (silent, begun))
                )
        finally:
            dripping.cancel()
        assert closed == [b""] * 10
        for answer in told:
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"invalid_request"' in answer
        slow = await http.get("/v1/agents?limit=1", headers=api.as_(Role.VIEWER))  # On a connection that was kept.
        assert slow.status_code == 200
        for _, writer in held:
            writer.close()


async def test_a_body_that_never_ends(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered with 408 in time; and one whose sender hangs up is no fault for the log."""
    monkeypatch.setattr("api.bodies.BODY_SECONDS", 0.5)
    head = (
        f"POST {RUN} HTTP/1.1\r\nHost: x\r\nX-API-Key: {api.secrets[Role.ADMIN]}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    ).encode()
    with caplog.at_level(logging.ERROR):
        async with listening(api) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            async with asyncio.timeout(10):
                answer = await reader.read()  # The connection is closed after it.
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"application/problem+json" in answer
            for _ in range(5):
                _, leaving = await asyncio.open_connection("127.0.0.1", port)
                leaving.write(head)
                await leaving.drain()
                leaving.close()
            writer.close()
    assert not caplog.records


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n",
        b"POST /v1/agents/run HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v1/agents/run HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        b"POST /v1/agents/run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
    ],
    ids=range(8),
)
async def test_what_is_no_request(api: Api, raw: bytes) -> None:
    """Lines, lengths and heads that two programs could read differently are refused, and the connection is closed."""
    async with listening(api) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))


async def test_nothing_is_smuggled_behind_a_request(api: Api) -> None:
    """With two ways to say where a body ends, what follows it is not taken for a request of its own."""
    head = (
        f"POST {RUN} HTTP/1.1\r\nHost: x\r\nX-API-Key: {api.secrets[Role.ADMIN]}\r\nContent-Type: application/json\r\n"
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    async with listening(api) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1, answer
