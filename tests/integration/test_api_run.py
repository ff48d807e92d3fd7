"""POST /v1/agents/run: what is asked for is what starts, once."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import Client

from conductor_ai.contracts.session import SessionInput
from conductor_ai.contracts.status import StopReason
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import PublishedTool, Tools
from tests.fixtures_api import HELLO, PUBLISHED, Api, is_problem, nowhere, serving, spec
from tests.fixtures_servers import wait_until

RUN = "/v1/agents/run"


async def _row(api: Api, session_id: str) -> Any:
    async with api.deps.database.connection() as connection:
        return await connection.fetchrow("SELECT * FROM conductor.sessions WHERE id = $1", session_id)


async def test_the_session_that_is_returned_is_the_one_that_runs(api: Api, temporal: Client) -> None:
    """The returned id is the row's id and the workflow's id, and the workflow's input names it too."""
    answer = await api.post(RUN, HELLO)
    assert answer.status_code == 202
    body = answer.json()
    session_id = body["session_id"]
    assert body["status"] == "pending"
    assert body["poll_url"] == f"/v1/agents/{session_id}" == answer.headers["location"]
    assert body["links"]["self"] == body["poll_url"]
    assert datetime.fromisoformat(body["created_at"]).tzinfo is not None
    assert (await temporal.get_workflow_handle(session_id).describe()).id == session_id
    row = await _row(api, session_id)
    assert (row["start_state"], row["input"]["session_id"], row["org_id"]) == ("started", session_id, api.org)
    assert (await api.get(body["poll_url"])).json()["session_id"] == session_id


async def test_the_workflow_gets_what_the_row_says(api: Api) -> None:
    """The input in history equals the one that is stored, with title, deadline and the server's settings."""
    before = datetime.now(UTC)
    session_id = await api.start(title="My title", limits={"deadline_seconds": 90}, max_steps=7)
    history = await api.deps.engine.client.get_workflow_handle(session_id).fetch_history()
    payloads = history.events[0].workflow_execution_started_event_attributes.input.payloads
    [given] = await api.deps.engine.client.data_converter.decode(payloads, [SessionInput])
    stored = SessionInput.model_validate((await _row(api, session_id))["input"])
    assert given == stored
    assert (stored.title, stored.max_steps, stored.model, stored.org_id) == ("My title", 7, "demo", api.org)
    settings = api.deps.settings
    assert stored.approval_ttl_seconds == settings.approval_ttl_seconds
    assert stored.continue_as_new_steps == settings.continue_as_new_steps
    assert stored.model_max_attempts == settings.model_max_attempts
    assert stored.allow_signals is settings.allow_signals
    assert stored.deadline_at is not None
    assert timedelta(seconds=89) < stored.deadline_at - before < timedelta(seconds=95)


async def test_the_title_is_the_first_line_of_the_first_user_message(api: Api) -> None:
    """Without a title the session is called what its user asked first."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "\n Count to three.\nSlowly."}]
    session_id = await api.start(messages=messages)
    assert (await api.get(f"/v1/agents/{session_id}")).json()["title"] == "Count to three."


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({}, ["sql_query", "web_fetch"]),
        ({"tools": None}, ["sql_query", "web_fetch"]),
        ({"tools": []}, []),
        ({"tools": ["web_fetch"]}, ["web_fetch"]),
        ({"tools": ["web_fetch", "web_fetch"]}, ["web_fetch"]),
    ],
)
async def test_tools(api: Api, asked: dict[str, Any], got: list[str]) -> None:
    """Null or absent means all that are available; an empty list means none at all; a list means that list."""
    session_id = await api.start(**asked)
    assert (await api.get(f"/v1/agents/{session_id}")).json()["tools"] == got


async def test_unknown_tool(api: Api) -> None:
    """A tool that nobody published, and one that is not available here, are refused and pointed at."""
    body = is_problem(await api.post(RUN, {**HELLO, "tools": ["web_fetch", "rm_rf", "code_run"]}), 422, "unknown_tool")
    assert [item["pointer"] for item in body["errors"]] == ["/tools/1", "/tools/2"]
    assert "rm_rf" not in str(body)
    assert "bubblewrap" in body["errors"][1]["message"]


async def test_all_tools_of_nobody(api: Api) -> None:
    """Before any worker has published its tools, "all tools" is not taken to mean none; an empty list still works."""
    await Tools(api.deps.database).publish("main", ())
    answer = await api.post(RUN, HELLO)
    is_problem(answer, 503, "engine_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert (await api.post(RUN, {**HELLO, "tools": []})).status_code == 202


async def test_system_messages_are_accepted(api: Api) -> None:
    """Messages of all three roles are stored in their order; the system prompt is kept apart."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Go on"},
    ]
    session_id = await api.start(messages=messages, system_prompt="Be kind.")
    async with api.deps.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT role, body FROM conductor.messages WHERE session_id = $1 ORDER BY part", session_id
        )
    assert [{"role": row["role"], "content": row["body"]} for row in rows] == messages
    assert (await _row(api, session_id))["system_prompt"] == "Be kind."


async def test_metadata(api: Api) -> None:
    """Up to 16 plain values are kept and shown; a seventeenth, or a nested one, is refused."""
    given = {"team": "ops", "n": 3, "ratio": 0.5, "on": True, "none": None}
    session_id = await api.start(metadata=given)
    assert (await api.get(f"/v1/agents/{session_id}")).json()["metadata"] == given
    is_problem(await api.post(RUN, {**HELLO, "metadata": {f"k{i}": i for i in range(17)}}), 422, "invalid_request")
    is_problem(await api.post(RUN, {**HELLO, "metadata": {"deep": {"er": 1}}}), 422, "invalid_request")
    is_problem(await api.post(RUN, {**HELLO, "metadata": {"large": 2**53}}), 422, "invalid_request")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/messages"),
        ({"messages": []}, "/messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "/messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": ""}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": "  "}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "/messages/0/name"),
        ({**HELLO, "max_steps": 0}, "/max_steps"),
        ({**HELLO, "max_steps": 101}, "/max_steps"),
        ({**HELLO, "max_steps": "10"}, "/max_steps"),
        ({**HELLO, "max_steps": True}, "/max_steps"),
        ({**HELLO, "max_steps": 1.5}, "/max_steps"),
        ({**HELLO, "tools": "web_fetch"}, "/tools"),
        ({**HELLO, "limits": {"deadline_seconds": 0}}, "/limits/deadline_seconds"),
        ({**HELLO, "limits": {"deadline_seconds": 10**12}}, "/limits/deadline_seconds"),
        ({**HELLO, "limits": {"sooner": 1}}, "/limits/sooner"),
        ({**HELLO, "max_step": 5}, "/max_step"),
        ({**HELLO, "title": ""}, "/title"),
        ([], ""),
        ("text", ""),
        (None, ""),
    ],
)
async def test_invalid(api: Api, body: Any, pointer: str) -> None:
    """What is not exactly right is refused as a whole, with a pointer to the field at fault."""
    answer = await api.post(RUN, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert pointer in [item["pointer"] for item in is_problem(answer, 422, "invalid_request")["errors"]]


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"webhook": "https://example.com"}, "/webhook"),
    ],
)
async def test_known_but_not_supported(api: Api, more: dict[str, Any], pointer: str) -> None:
    """A field with a meaning that this version cannot give is told apart from one that has none."""
    body = is_problem(await api.post(RUN, {**HELLO, **more}), 422, "not_supported")
    assert [item["pointer"] for item in body["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ([], "/output_schema"),
        ({"properties": {"a": {"type": "strin"}}}, "/output_schema/properties/a/type"),
        ({"items": {"$ref": "https://example.com/x"}}, "/output_schema/items"),
        ({"properties": {"not a name": 1}}, "/output_schema/properties"),
        ({"$ref": "#"}, "/output_schema"),
        (json.loads('{"items":' * 40 + "{}" + "}" * 40), "/output_schema"),
    ],
)
async def test_an_output_schema_that_is_none(api: Api, schema: Any, pointer: str) -> None:
    """Refused with the place, before anything starts; nothing of it is repeated but names that look like names."""
    body = is_problem(await api.post(RUN, {**HELLO, "output_schema": schema}), 422, "invalid_request")
    assert next(item["pointer"] for item in body["errors"]).startswith(pointer)
    assert "example.com" not in str(body)
    assert "not a name" not in str(body)


async def test_the_output_schema_is_kept(api: Api) -> None:
    """It is in the row, where the worker reads it, and not in Temporal's history."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    session_id = await api.start(output_schema=schema)
    row = await _row(api, session_id)
    assert row["output_schema"] == schema
    assert "output_schema" not in row["input"]
    assert (await api.get(f"/v1/agents/{session_id}")).json()["output"] is None


@pytest.mark.parametrize(
    ("models", "pointer", "code"),
    [
        (["no-such-model"], "/fallback_models/0", "unknown_model"),
        (["demo", "claude-3-opus-20240229"], "/fallback_models/1", "model_retired"),
        (["claude-haiku-5-5", "claude-opus-5-5"], "/fallback_models/1", "invalid_request"),
        (["demo", "demo"], "/fallback_models/1", "invalid_request"),
        (["", "demo"], "/fallback_models/0", "invalid_request"),
        ([f"openai:{n}" for n in range(6)], "/fallback_models", "invalid_request"),
        ("demo", "/fallback_models", "invalid_request"),
    ],
)
async def test_fallback_models_that_are_none(api: Api, models: Any, pointer: str, code: str) -> None:
    """Each is looked at like `model`; one that is tried already is a mistake, and so are more than five."""
    asked = {**HELLO, "model": "claude-opus-5-5", "tools": [], "fallback_models": models}
    body = is_problem(await api.post(RUN, asked), 422, code)
    assert [item["pointer"] for item in body["errors"]] == [pointer]


async def test_fallback_models_are_kept(api: Api) -> None:
    """By their ids, in order, with the warnings of each; null and an empty list are none."""
    session_id = await api.start(model="demo", tools=[], fallback_models=["claude-haiku-4-5", "openai:mine"])
    shown = (await api.get(f"/v1/agents/{session_id}")).json()
    assert shown["fallback_models"] == ["claude-haiku-4-5-20251001", "openai:mine"]
    assert any("openai:mine" in warning for warning in shown["warnings"])
    nothing: tuple[list[str] | None, ...] = ([], None)
    for none in nothing:
        session_id = await api.start(fallback_models=none)
        assert (await api.get(f"/v1/agents/{session_id}")).json()["fallback_models"] == []


async def test_models(api: Api) -> None:
    """An unknown model is refused without repeating it; a retired one names what to take instead."""
    body = is_problem(await api.post(RUN, {**HELLO, "model": "no-such-model"}), 422, "unknown_model")
    assert body["errors"][0]["pointer"] == "/model"
    assert "no-such-model" not in str(body)
    session_id = await api.start(model="claude-sonnet-4-5-20250929", tools=[])
    shown = (await api.get(f"/v1/agents/{session_id}")).json()
    assert "is retired on" in shown["warnings"][0]


async def test_idempotent_start(api: Api) -> None:
    """The same key and body start one session however often they are sent, also all at once; the body is the same."""
    headers = {"Idempotency-Key": "k-1"}
    answers = await asyncio.gather(*(api.post(RUN, {**HELLO, "max_steps": 3}, headers=headers) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    reordered = '{"max_steps" : 3, "messages": [{"content": "Say hello.", "role": "user"}]}'
    again = await api.post(RUN, content=reordered, headers={**headers, "Content-Type": "application/json"})
    assert (again.text, again.headers["idempotency-replayed"]) == (answers[0].text, "true")


async def test_another_body_under_the_same_key(api: Api) -> None:
    """It is refused: nobody gets the answer to a question that they did not ask."""
    headers = {"Idempotency-Key": "k-2"}
    await api.post(RUN, HELLO, headers=headers)
    is_problem(await api.post(RUN, {**HELLO, "max_steps": 2}, headers=headers), 422, "idempotency_mismatch")


async def test_keys_of_two_organisations_do_not_meet(api: Api) -> None:
    """The same key and body of another organisation starts another session."""
    headers = {"Idempotency-Key": "k-3"}
    other = await api.other()
    first, second = await api.post(RUN, HELLO, headers=headers), await other.post(RUN, HELLO, headers=headers)
    assert first.json()["session_id"] != second.json()["session_id"]


async def test_a_replay_outlives_the_world_that_it_was_made_in(api: Api) -> None:
    """A session that runs is answered for even if its request could not be made any more today."""
    await Tools(api.deps.database).publish("main", (*PUBLISHED, PublishedTool(spec("brief"), available=True)))
    headers = {"Idempotency-Key": "k-4"}
    first = await api.post(RUN, {**HELLO, "tools": ["brief"]}, headers=headers)
    await Tools(api.deps.database).publish("main", PUBLISHED)
    again = await api.post(RUN, {**HELLO, "tools": ["brief"]}, headers=headers)
    assert (again.status_code, again.text) == (202, first.text)


@pytest.mark.parametrize("key", ["", "k" * 256, "with space", "ünï".encode()])
async def test_odd_idempotency_keys(api: Api, key: str | bytes) -> None:
    """A key that is none is refused."""
    is_problem(await api.post(RUN, HELLO, headers={"Idempotency-Key": key}), 422, "invalid_request")


async def test_start_adopted_after_an_unclear_one(api: Api, database: Database) -> None:
    """A start that failed half-way leaves its row; the same key adopts that very session and starts it."""
    headers = {"Idempotency-Key": "k-5"}
    async with serving(database, await nowhere(), api.deps.hot) as broken:
        half = Api(broken.http, broken.deps, broken.hand, api.org, api.secrets)
        answer = await half.post(RUN, HELLO, headers=headers)
        is_problem(answer, 503, "engine_unavailable")
        assert int(answer.headers["retry-after"]) > 0
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT id, start_state FROM conductor.sessions WHERE org_id = $1", api.org)
    assert row is not None
    assert row["start_state"] == "starting"
    again = await api.post(RUN, HELLO, headers=headers)
    assert (again.status_code, again.json()["session_id"]) == (202, row["id"])
    assert again.headers["idempotency-replayed"] == "true"
    assert await api.deps.engine.current_run(row["id"]) is not None


async def test_wait_until_it_ended(api: Api) -> None:
    """With `wait` the answer is the session itself, as soon as it has ended."""
    pending = asyncio.create_task(api.post(f"{RUN}?wait=20", HELLO, headers={"Idempotency-Key": "w-1"}))
    session_id = await _newest(api)
    await api.hand.step(session_id, text="Hello!")
    await api.hand.finish(session_id)
    answer = await pending
    assert answer.status_code == 200
    assert (answer.json()["session_id"], answer.json()["final_answer"]) == (session_id, "Hello!")
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    again = await api.post(f"{RUN}?wait=20", HELLO, headers={"Idempotency-Key": "w-1"})
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")


async def test_wait_until_somebody_is_needed(api: Api) -> None:
    """`wait` ends too when a call waits for a decision."""
    pending = asyncio.create_task(api.post(f"{RUN}?wait=20", HELLO))
    session_id = await _newest(api)
    approval = await api.hand.ask(session_id)
    answer = await pending
    assert answer.status_code == 200
    assert answer.json()["phase"] == "awaiting_approval"
    assert [item["id"] for item in answer.json()["pending_approvals"]] == [approval["id"]]


async def test_wait_in_vain(api: Api) -> None:
    """A session that goes on longer is answered with 202 when the time is over."""
    answer = await api.post(f"{RUN}?wait=0.2", HELLO)
    assert answer.status_code == 202
    assert answer.json()["status"] == "pending"


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=nan", "wait=soon", "waits=1"])
async def test_odd_waits(api: Api, query: str) -> None:
    """`wait` is 0 to 60 seconds, and there is no other parameter."""
    body = is_problem(await api.post(f"{RUN}?{query}", HELLO), 422, "invalid_request")
    assert body["errors"][0]["pointer"].startswith("/query/wait")


async def test_a_session_that_failed_at_once_is_no_error_of_the_api(api: Api) -> None:
    """`wait` answers 200 for a session that failed: the request was fine."""
    pending = asyncio.create_task(api.post(f"{RUN}?wait=20", HELLO))
    session_id = await _newest(api)
    await api.hand.step(session_id, text="?")
    await api.hand.finish(session_id, StopReason.MAX_STEPS)
    answer = await pending
    assert (answer.status_code, answer.json()["status"], answer.json()["stop_reason"]) == (200, "failed", "max_steps")


async def _newest(api: Api) -> str:
    found: list[str] = []

    async def there() -> bool:
        async with api.deps.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT id FROM conductor.sessions WHERE org_id = $1 AND start_state = 'started'", api.org
            )
        if row is not None:
            found.append(row["id"])
        return row is not None

    await wait_until(there, "a started session")
    return found[0]
