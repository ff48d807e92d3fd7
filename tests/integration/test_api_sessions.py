"""GET /v1/agents and /v1/agents/{id}: whole or in part, now or when it changes, of one's own organisation alone."""

import asyncio
import time
from typing import Any

import pytest

from conductor_ai.names import new_id
from conductor_ai.stores.access import Role
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.snapshots import _NEXT_SESSIONS
from tests.fixtures_api import Api, is_problem
from tests.fixtures_servers import wait_until


async def test_a_session_has_the_documented_fields(api: Api) -> None:
    """The first fields that clients ever knew keep their names and types; the rest adds to them."""
    session_id = await api.start()
    await api.hand.step(session_id, text="Let me see.", ask={"query": "SELECT 1"})
    body = (await api.get(f"/v1/agents/{session_id}")).json()
    assert (body["session_id"], body["status"], body["phase"]) == (session_id, "running", "calling_tool")
    assert (body["input_tokens"], body["output_tokens"], body["total_cost_usd"]) == (10, 5, 0.25)
    [step] = body["steps"]
    assert (step["step_number"], step["thought"]) == (1, "Let me see.")
    assert step["action"] == {"tool_name": "sql_query", "arguments": {"query": "SELECT 1"}}
    for name in (
        "model",
        "waiting_for",
        "final_answer",
        "output",
        "stop_reason",
        "error",
        "pending_approvals",
        "retry",
    ):
        assert name in body
    assert body["times"]["created_at"].endswith("Z")
    assert body["degraded"] is False


async def test_an_observation_is_text(api: Api) -> None:
    """What the calls came to is a string, as clients have always had it."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    await api.decide(approval, "deny", comment="Not today.")
    body = (await api.get(f"/v1/agents/{session_id}")).json()
    assert isinstance(body["steps"][0]["observation"], str)
    assert "Not today." in body["steps"][0]["observation"]


async def test_etag(api: Api) -> None:
    """The version is the ETag: who has it is told so without a body, until something changes."""
    session_id = await api.start()
    first = await api.get(f"/v1/agents/{session_id}")
    assert first.headers["etag"] == f'"{first.json()["version"]}"'
    for seen in (first.headers["etag"], f"W/{first.headers['etag']}", f'"7777", {first.headers["etag"]}', "*"):
        answer = await api.get(f"/v1/agents/{session_id}", headers={"If-None-Match": seen})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", first.headers["etag"])
        assert "x-request-id" in answer.headers
    await api.hand.step(session_id, text="Hm.")
    assert (await api.get(f"/v1/agents/{session_id}", headers={"If-None-Match": first.headers["etag"]})).is_success
    assert (await api.get(f"/v1/agents/{session_id}", headers={"If-None-Match": "nonsense"})).is_success


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [1, 2, 3]),
        ("?steps=all", [1, 2, 3]),
        ("?steps=none", []),
        ("?steps=last", [3]),
        ("?steps_after=1", [2, 3]),
        ("?steps_after=1&steps=last", [3]),
        ("?steps_after=3&steps=last", []),
    ],
)
async def test_steps_in_part(api: Api, query: str, numbers: list[int]) -> None:
    """A client takes the steps that it needs; the count is of all of them."""
    session_id = await api.start()
    for _ in range(3):
        await api.hand.step(session_id, text="Hm.", ask={"query": "SELECT 1"})
    body = (await api.get(f"/v1/agents/{session_id}{query}")).json()
    assert [step["step_number"] for step in body["steps"]] == numbers
    assert body["step_count"] == 3


async def test_long_poll_answers_at_the_change(api: Api) -> None:
    """`wait` with `since_version` answers when there is something newer, well before its time is over."""
    session_id = await api.start()
    version = (await api.get(f"/v1/agents/{session_id}")).json()["version"]
    pending = asyncio.create_task(api.get(f"/v1/agents/{session_id}?wait=30&since_version={version}"))
    await _somebody_waits(api, session_id)
    began = time.monotonic()
    await api.hand.step(session_id, text="Hm.")
    body = (await pending).json()
    assert body["version"] > version
    assert len(body["steps"]) == 1
    assert time.monotonic() - began < 5


async def test_a_ring_is_faster_than_looking(api: Api) -> None:
    """With Redis there the wait ends at the ring and not at the next look, a second later."""
    session_id = await api.start()
    took = []
    for _ in range(4):
        version = (await api.get(f"/v1/agents/{session_id}")).json()["version"]
        pending = asyncio.create_task(api.get(f"/v1/agents/{session_id}?wait=30&since_version={version}"))
        await _somebody_waits(api, session_id)
        await api.hand.step(session_id, text="Hm.")
        began = time.monotonic()
        await pending
        took.append(time.monotonic() - began)
    assert sorted(took)[0] < 0.3, took


async def test_long_poll_without_a_version(api: Api) -> None:
    """Without `since_version` the ETag's version counts; without either, any change from now on."""
    session_id = await api.start()
    tag = (await api.get(f"/v1/agents/{session_id}")).headers["etag"]
    for headers in ({"If-None-Match": tag}, {}):
        pending = asyncio.create_task(api.get(f"/v1/agents/{session_id}?wait=30", headers=headers))
        await _somebody_waits(api, session_id)
        await api.hand.step(session_id, text="Hm.")
        answer = await pending
        assert answer.status_code == 200
        assert answer.headers["etag"] != tag
        tag = answer.headers["etag"]


async def test_long_poll_in_vain(api: Api) -> None:
    """When nothing changes in time: the present state, or 304 to whoever has it."""
    session_id = await api.start()
    first = await api.get(f"/v1/agents/{session_id}")
    version = first.json()["version"]
    answer = await api.get(f"/v1/agents/{session_id}?wait=0.1&since_version={version}")
    assert (answer.status_code, answer.json()["version"]) == (200, version)
    tag = first.headers["etag"]
    assert (await api.get(f"/v1/agents/{session_id}?wait=0.1", headers={"If-None-Match": tag})).status_code == 304


async def test_nobody_waits_for_a_session_that_has_ended(api: Api) -> None:
    """Nothing more will happen: the answer comes at once."""
    session_id = await api.start()
    await api.hand.step(session_id, text="Done.")
    await api.hand.finish(session_id)
    began = time.monotonic()
    body = (await api.get(f"/v1/agents/{session_id}?wait=30")).json()
    assert (body["status"], body["phase"], body["final_answer"]) == ("completed", "done", "Done.")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "query", ["wait=31", "wait=inf", "since_version=-1", "steps=some", "steps_after=x", "stpes=none"]
)
async def test_odd_queries(api: Api, query: str) -> None:
    """A parameter that is not understood is refused, not ignored."""
    session_id = await api.start()
    body = is_problem(await api.get(f"/v1/agents/{session_id}?{query}"), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/query/" + query.partition("=")[0]


async def test_tenancy_on_reads(api: Api) -> None:
    """Another organisation's session is a 404 that equals, but for its request id, that of one that never was."""
    session_id = await api.start()
    assert (await api.get(f"/v1/agents/{session_id}")).is_success  # the hot copy exists now, too
    other = await api.other()
    answers = [
        await other.get(f"/v1/agents/{session_id}"),
        await other.get(f"/v1/agents/{new_id('sess')}"),
        await other.get("/v1/agents/nonsense%00"),
        await other.get(f"/v1/agents/{session_id}?wait=5"),
        await other.post(f"/v1/agents/{session_id}/cancel"),
        await other.post(f"/v1/agents/{new_id('sess')}/cancel"),
    ]
    bodies = [is_problem(answer, 404, "not_found") for answer in answers]
    for body in bodies:
        for name in ("instance", "request_id"):
            del body[name]
    assert all(body == bodies[0] for body in bodies)
    assert [answer.headers.keys() == answers[0].headers.keys() for answer in answers].count(False) == 0
    assert (await other.get("/v1/agents")).json()["data"] == []
    assert (await api.get(f"/v1/agents/{session_id}")).json()["phase"] != "cancelling"


async def test_list(api: Api) -> None:
    """Newest first, page by page with a cursor; sessions that arrive meanwhile move no page."""
    made = [await api.start(metadata={"n": n}) for n in range(5)]
    first = (await api.get("/v1/agents?limit=2")).json()
    assert [item["session_id"] for item in first["data"]] == [made[4], made[3]]
    assert first["has_more"] is True
    await api.start()
    second = (await api.get("/v1/agents", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["session_id"] for item in second["data"]] == [made[2], made[1]]
    third = (await api.get("/v1/agents", params={"limit": 2, "cursor": second["next_cursor"]})).json()
    assert [item["session_id"] for item in third["data"]] == [made[0]]
    assert (third["has_more"], third["next_cursor"]) == (False, None)
    assert third["data"][0]["metadata"] == {"n": 0}


async def test_list_filters(api: Api) -> None:
    """Status, phase and model narrow the list."""
    waiting, done = await api.start(), await api.start()
    await api.hand.ask(waiting)
    await api.hand.step(done, text="Done.")
    await api.hand.finish(done)

    async def ids(**query: Any) -> list[str]:
        return [item["session_id"] for item in (await api.get("/v1/agents", params=query)).json()["data"]]

    assert await ids(status="completed") == [done]
    assert await ids(phase="awaiting_approval") == [waiting]
    assert await ids(model="demo") == [done, waiting]
    assert await ids(model="other\0") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "status=ended", "cursor=abc", "cursor=W10", "colour=red"])
async def test_odd_lists(api: Api, query: str) -> None:
    """Limits, words and cursors that cannot be are refused."""
    body = is_problem(await api.get(f"/v1/agents?{query}"), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/query/" + query.partition("=")[0]


async def test_list_by_content_and_time(api: Api) -> None:
    """Metadata holds entry by entry and with its type, text is looked for in titles, times take one end in; all must hold."""
    first = await api.start(title="Invoice 100% of ACME", metadata={"customer": "acme", "n": 1})
    second = await api.start(title="Another", metadata={"customer": "acme", "n": 2})
    third = await api.start(title="invoice of nobody")

    async def ids(**query: Any) -> list[str]:
        return [item["session_id"] for item in (await api.get("/v1/agents", params=query)).json()["data"]]

    assert await ids(metadata='{"customer": "acme"}') == [second, first]
    assert await ids(metadata='{"customer": "acme", "n": 1}') == [first]
    assert await ids(metadata='{"n": "1"}') == []
    assert await ids(metadata='{"customer\\u0000": "acme"}') == []
    assert await ids(q="INVOICE") == [third, first]
    assert await ids(q="100%") == [first]
    assert await ids(q="_") == []
    made = (await api.get(f"/v1/agents/{second}")).json()["times"]["created_at"]
    assert await ids(created_after=made) == [third, second]
    assert await ids(created_before=made) == [first]
    assert await ids(created_after=made, q="invoice") == [third]
    page = (await api.get("/v1/agents", params={"metadata": '{"customer": "acme"}', "limit": 1})).json()
    assert page["has_more"]
    assert await ids(metadata='{"customer": "acme"}', cursor=page["next_cursor"]) == [first]


@pytest.mark.parametrize(
    "query",
    [
        "q=", "metadata=x", "metadata={}", "metadata=[]", 'metadata={"a": {}}', 'metadata={"a": NaN}', 'metadata={"": 1}',
        "metadata=" + "[" * 1300, "created_after=yesterday", "created_after=2026-01-01T00:00:00", "created_before=5e99",
        'metadata={"a": "\\ud800"}',
    ],
)  # fmt: skip
async def test_odd_filters(api: Api, query: str) -> None:
    """A filter that is not understood is refused: nobody takes the whole list for a filtered one."""
    name, _, value = query.partition("=")
    body = is_problem(await api.get("/v1/agents", params={name: value}), 422, "invalid_request")
    assert body["errors"][0]["pointer"].startswith(f"/query/{name}")


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_reads(api: Api, role: Role) -> None:
    """Reading needs a key and no more."""
    session_id = await api.start()
    for url in ("/v1/agents", f"/v1/agents/{session_id}", "/v1/tools", "/v1/models", "/v1/approvals"):
        assert (await api.get(url, role=role)).is_success


async def _somebody_waits(api: Api, session_id: str) -> None:
    async def waits() -> bool:
        return session_id in api.deps.rings._bells

    await wait_until(waits, "a reader that waits")


async def test_a_page_looks_through_so_many_sessions(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a filter that few fulfil a page may be short or empty, and says where to go on: page after page shows each session
    that fits once, in order, also when pages end in the middle."""
    monkeypatch.setattr("conductor_ai.stores.snapshots.LOOKED_THROUGH", 3)
    made = [await api.start(title=f"{'rare' if number in (0, 4, 5, 6) else 'usual'} {number}") for number in range(8)]
    sizes: list[int] = []
    for limit in (1, 2, 50):
        found, sizes, cursor = list[str](), [], None
        while True:
            query = {"q": "rare", "limit": limit} | ({"cursor": cursor} if cursor else {})
            page = (await api.get("/v1/agents", params=query)).json()
            found += [each["session_id"] for each in page["data"]]
            sizes.append(len(page["data"]))
            assert page["has_more"] == (page["next_cursor"] is not None)
            if not page["has_more"]:
                break
            cursor = page["next_cursor"]
        assert found == [made[number] for number in (6, 5, 4, 0)], limit
        assert max(sizes) <= min(limit, 3)
    assert sizes == [2, 1, 1]


async def test_a_list_is_read_from_its_place_on(api: Api, database: Database) -> None:
    """However many sessions there are, a page reads the index from its cursor on and stops where it may look no further, with the
    plan that Postgres keeps for any values as with one for these."""
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute(f"PREPARE page AS SELECT id FROM conductor.sessions {_NEXT_SESSIONS} LIMIT $6")
        plan = await connection.fetch(
            "EXPLAIN EXECUTE page('o', '2000-01-01', '3000-01-01', '2026-01-01', 'sess_0', 20000)"
        )
        await connection.execute("DEALLOCATE page")
    text = "\n".join(row[0] for row in plan)
    assert "sessions_by_age" in text
    assert "ROW(created_at, id) < ROW($4, $5)" in text
    assert "Sort" not in text
    assert "Filter" not in text


@pytest.mark.parametrize(
    "what", ["it", "another's", "none", "no id", "no key", "a wrong key", "not modified", "too much"]
)
async def test_a_poll_without_a_query_takes_no_other_way(api: Api, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way of a plain poll: status, headers and body are those of the same question asked through FastAPI."""
    session_id = await api.start()
    await api.hand.step(session_id, text="Let me see.")
    headers = api.as_(Role.VIEWER)
    match what:
        case "another's":
            headers = (await api.other()).as_(Role.ADMIN)
        case "none":
            session_id = new_id("sess")
        case "no id":
            session_id = "sess_%00"
        case "no key":
            headers = {}
        case "a wrong key":
            headers = {"X-API-Key": f"ck_{'x' * 43}"}
        case "not modified":
            headers = {**headers, "If-None-Match": (await api.get(f"/v1/agents/{session_id}")).headers["etag"]}
        case "too much":

            async def wait(_org_id: str, _key_id: str) -> float:
                return 7.5

            monkeypatch.setattr(api.deps.limiter, "wait", wait)
    headers |= {"X-Request-ID": "the-same-request"}
    plain = await api.http.get(f"/v1/agents/{session_id}", headers=headers)
    asked = await api.http.get(f"/v1/agents/{session_id}?steps=all", headers=headers)
    expected = {"it": 200, "not modified": 304, "no key": 401, "a wrong key": 401, "too much": 429}
    assert plain.status_code == asked.status_code == expected.get(what, 404)
    assert plain.headers == asked.headers
    assert plain.content == asked.content
