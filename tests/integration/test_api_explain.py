"""Why does it not move: each reason made to happen with a real worker, a real Temporal and a real Postgres, and asked over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.tools.base import Call
from conductor_ai.contracts.tools import Facts, Queue, ToolResult
from conductor_ai.errors import Code, ModelFailure, ToolUnavailable
from conductor_ai.names import new_id
from conductor_ai.stores.access import Role
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import PublishedTool, Tools
from conductor_ai.temporal import Engine
from tests.fixtures_api import HELLO, PUBLISHED, Api, is_problem, nowhere, serving
from tests.fixtures_servers import migrated_database, postgres_in, temporal_in, wait_until
from tests.gates import Held, workflow_worker
from tests.integration.test_api_outages import frozen, quickly
from tests.rig import Rig, answer, calls, rig
from tests.tools import FakeTool, Say

Make = Callable[..., Awaitable[tuple[Api, Rig]]]

OVERLOADED = ModelFailure(
    "The provider is overloaded; the call is tried again later.",
    code=Code.MODEL_UNAVAILABLE,
    retryable=True,
    retry_after=90,
    kind="overloaded",
)


@asynccontextmanager
async def stack(
    temporal: Client,
    store_url: str,
    hot: Hot,
    *,
    api: dict[str, Any] | None = None,
    worker_url: str | None = None,
    **worker: Any,
) -> AsyncIterator[tuple[Api, Rig]]:
    """An API and a worker on the same queue and database; `worker_url` is the worker's own way to it."""
    queue = new_id("queue")
    database = Database(store_url)
    async with (
        rig(temporal, worker_url or store_url, queue, **worker) as r,
        serving(database, Engine(temporal, queue), hot, **(api or {})) as running,
    ):
        tools = tuple(PublishedTool(tool.spec, available=True) for tool in r.parts.registry)
        await Tools(database).publish("main", tools)
        yield running, r
    await database.close()


async def start(api: Api, *tools: str, **more: Any) -> str:
    """Start a session with these tools."""
    return await api.start(tools=list(tools), model="demo", **more)


async def why(api: Api, session_id: str) -> dict[str, Any]:
    """The explanation."""
    response = await api.get(f"/v1/agents/{session_id}/explain")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def until(api: Api, session_id: str, reason: str, seconds: float = 20) -> dict[str, Any]:
    """Ask until that is the reason. Returns the explanation."""
    found: dict[str, Any] = {}

    async def so() -> bool:
        found.update(await why(api, session_id))
        return bool(found["reason"] == reason)

    try:
        await wait_until(so, f"the reason {reason}", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {found['reason']}: {found['sentence']}") from None
    return found


async def for_ever(_arguments: Say, _call: Call) -> ToolResult:
    """Runs until it is cancelled."""
    await asyncio.Event().wait()
    raise AssertionError


async def away(_arguments: Say, _call: Call) -> ToolResult:
    """Lacks what it needs."""
    raise ToolUnavailable("Docker does not answer.")


def moment(text: str) -> datetime:
    """A time of the answer."""
    return datetime.fromisoformat(text)


async def test_a_decision_and_its_expiry(temporal: Client, store_url: str, hot: Hot) -> None:
    """A call waits for a person: which, since when, until when; then the session has ended."""
    asks = calls(("sql_query", {"text": "x"}))
    async with stack(temporal, store_url, hot, replies=[asks, answer("Fine.")], tools=[FakeTool("sql_query")]) as (
        api,
        _,
    ):
        session_id = await start(api, "sql_query")
        found = await until(api, session_id, "awaiting_approval")
        [approval] = (await api.get(f"/v1/agents/{session_id}")).json()["pending_approvals"]
        assert found["facts"]["stored"]["approvals"] == [
            {"id": approval["id"], "tool": "sql_query", **{k: approval[k] for k in ("requested_at", "expires_at")}}
        ]
        assert (found["until"], found["waits_for"]) == (approval["expires_at"], "person")
        assert approval["id"] in found["sentence"]
        assert "in 23 h 59 min" in found["sentence"] or "in 24 h" in found["sentence"]
        assert (found["facts"]["engine"]["workflow"], found["facts"]["engine"]["activities"]) == ("running", [])
        await api.decide({**approval})
        found = await until(api, session_id, "ended")
        assert "completed (final_answer)" in found["sentence"]
        assert (found["waits_for"], found["facts"]["engine"], found["also"]) == ("nothing", None, [])


async def test_a_decision_that_expires_soon(temporal: Client, store_url: str, hot: Hot) -> None:
    """Little time is left to decide: that is told, and what will happen then."""
    asks, soon = calls(("sql_query", {"text": "x"})), {"approval_ttl_seconds": 60}
    async with stack(temporal, store_url, hot, api=soon, replies=[asks], tools=[FakeTool("sql_query")]) as (api, _):
        found = await until(api, await start(api, "sql_query"), "approval_expiring")
    assert "the model is told that nobody decided" in found["sentence"]
    assert 0 < (moment(found["until"]) - datetime.now(UTC)).total_seconds() <= 60


async def test_a_model_that_is_asked_again(temporal: Client, store_url: str, hot: Hot) -> None:
    """The provider asked to wait 90 s: the next attempt's time and the reason, from the row and from Temporal alike."""
    async with stack(temporal, store_url, hot, replies=[OVERLOADED]) as (api, _):
        session_id = await start(api)
        await until(api, session_id, "model_retry")
        found = await until(api, session_id, "model_retry")  # row and Temporal are two looks: by now both know
        shown = (await api.get(f"/v1/agents/{session_id}")).json()["retry"]
    assert "(overloaded)" in found["sentence"]
    assert "Attempt 2 of 6" in found["sentence"]
    [pending] = found["facts"]["engine"]["activities"]
    assert (pending["activity"], pending["attempt"], pending["state"]) == ("call_model", 2, "scheduled")
    assert pending["last_failure"] == OVERLOADED.message
    assert found["until"] == pending["next_attempt_at"]
    assert abs((moment(found["until"]) - moment(shown["next_at"])).total_seconds()) < 5
    assert 60 < (moment(found["until"]) - datetime.now(UTC)).total_seconds() <= 90


async def test_a_tool_that_is_tried_again(temporal: Client, store_url: str, hot: Hot) -> None:
    """What a tool needs is away: the sentence of the failure, and when the next attempt comes."""
    fetch = calls(("web_fetch", {"text": "x"}))
    async with stack(temporal, store_url, hot, replies=[fetch], tools=[FakeTool(run=away)]) as (api, _):
        found = await until(api, await start(api, "web_fetch"), "tool_retry")
    assert "Docker does not answer." in found["sentence"]
    assert found["facts"]["engine"]["activities"][0]["maximum_attempts"] == 3


async def test_no_worker_at_all(temporal: Client, store_url: str, hot: Hot) -> None:
    """Nobody ever asked for tasks of this queue: the queue, and how long its task waits."""
    async with stack(temporal, store_url, hot, run=False) as (api, r):
        found = await until(api, await start(api), "no_worker")
    assert f"`{r.settings.task_queue}`" in found["sentence"]
    assert (found["waits_for"], "conductor worker" in found["advice"]) == ("operator", True)
    engine = found["facts"]["engine"]
    assert engine["workflow_task"]["state"] == "scheduled"
    [queue] = engine["queues"]
    assert (queue["kind"], queue["pollers"], queue["last_poll_at"], queue["backlog"]) == ("workflow", 0, None, 1)


async def test_no_worker_for_the_activities(temporal: Client, store_url: str, hot: Hot) -> None:
    """Workers that run workflows are there, but none for what they schedule."""
    async with stack(temporal, store_url, hot, run=False) as (api, r), workflow_worker(r):
        found = await until(api, await start(api), "no_worker")
    assert "`call_model` waits" in found["sentence"]
    assert {queue["kind"]: queue["pollers"] for queue in found["facts"]["engine"]["queues"]} == {
        "workflow": 1,
        "activity": 0,
    }


async def test_a_backlog(temporal: Client, store_url: str, hot: Hot) -> None:
    """The sandbox has one place and another session has it: the task waits for its turn, and a worker is there."""
    tool = FakeTool("code_run", for_ever, queue=Queue.SANDBOX)
    code = calls(("code_run", {"text": "x"}))
    async with stack(temporal, store_url, hot, replies=[code, code], tools=[tool], sandbox_concurrency=1) as (api, r):
        first = await start(api, "code_run")
        await asyncio.wait_for(tool.begun.wait(), 20)
        assert (await until(api, first, "tool_running"))["waits_for"] == "time"
        second = await start(api, "code_run")
        found = await until(api, second, "queue_backlog")
        queue = next(item for item in found["facts"]["engine"]["queues"] if item["kind"] == "activity")
        assert queue["name"] == f"{r.settings.task_queue}-sandbox"
        assert queue["pollers"] >= 1
        assert moment(queue["last_poll_at"]) <= datetime.now(UTC)
        assert "all their places are taken" in found["sentence"]


async def test_a_cancel_under_way(temporal: Client, store_url: str, hot: Hot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that takes its time to stop: what is being stopped, and since when the cancel is accepted."""
    monkeypatch.setattr("api.agents_cancel.WAIT_SECONDS", 0.1)
    let_go = asyncio.Event()

    async def stubborn(_arguments: Say, _call: Call) -> ToolResult:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await let_go.wait()
            raise
        raise AssertionError

    tool = FakeTool("code_run", stubborn, queue=Queue.SANDBOX)
    async with stack(temporal, store_url, hot, replies=[calls(("code_run", {"text": "x"}))], tools=[tool]) as (api, _):
        session_id = await start(api, "code_run")
        await asyncio.wait_for(tool.begun.wait(), 20)
        assert (await api.post(f"/v1/agents/{session_id}/cancel", {})).status_code == 202
        found = await until(api, session_id, "cancelling")
        assert "being stopped: run_tool" in found["sentence"]
        assert moment(found["facts"]["stored"]["cancel_requested_at"]) <= datetime.now(UTC)
        let_go.set()
        assert "cancelled (cancelled)" in (await until(api, session_id, "ended"))["sentence"]


async def test_the_model_is_being_asked(temporal: Client, store_url: str, hot: Hot) -> None:
    """A slow answer is no fault: since when, and the sign of life."""
    model = Held([answer()], 1)
    async with stack(temporal, store_url, hot, provider=model) as (api, _):
        session_id = await start(api)
        await asyncio.wait_for(model.asked.wait(), 20)
        found = await until(api, session_id, "model_running")
        assert found["facts"]["engine"]["activities"][0]["started_at"] is not None
        assert found["also"] == []
        model.go_on.set()
        await until(api, session_id, "ended")


async def test_a_tool_beside_the_answer(temporal: Client, store_url: str, hot: Hot) -> None:
    """A short read runs in the activity that asked the model: it is the tool that runs, whatever the activity is called."""
    tool = FakeTool(run=for_ever)
    async with stack(temporal, store_url, hot, replies=[calls(("web_fetch", {"text": "x"}))], tools=[tool]) as (api, _):
        session_id = await start(api, "web_fetch")
        await asyncio.wait_for(tool.begun.wait(), 20)
        found = await until(api, session_id, "tool_running")
    assert "A tool is running" in found["sentence"]


async def test_a_budget_that_is_used_up(temporal: Client, store_url: str, hot: Hot) -> None:
    """The first answer costs more tokens than the session may use; raising the limit lets it go on."""
    fetch = calls(("web_fetch", {"text": "x"}))
    async with stack(temporal, store_url, hot, replies=[fetch, answer("Done.")], tools=[FakeTool()]) as (api, _):
        session_id = await start(api, "web_fetch", limits={"max_total_tokens": 50})
        found = await until(api, session_id, "budget")
        assert "(120 of 50 tokens)" in found["sentence"]
        assert (found["waits_for"], found["facts"]["stored"]["paused"]["kind"]) == ("person", "budget")
        raised = await api.http.patch(
            f"/v1/agents/{session_id}/budget", json={"max_total_tokens": 10_000}, headers=api.as_(Role.OPERATOR)
        )
        assert raised.status_code == 200, raised.text
        await until(api, session_id, "ended")


async def test_a_pause(temporal: Client, store_url: str, hot: Hot) -> None:
    """Who paused it and why; resumed, it goes on."""
    model = Held([calls(("web_fetch", {"text": "x"})), answer("Done.")], 1)
    async with stack(temporal, store_url, hot, provider=model, tools=[FakeTool()]) as (api, _):
        session_id = await start(api, "web_fetch")
        await asyncio.wait_for(model.asked.wait(), 20)
        paused = await api.post(f"/v1/agents/{session_id}/pause", {"reason": "Let me look."}, role=Role.OPERATOR)
        assert paused.status_code == 200, paused.text
        model.go_on.set()
        found = await until(api, session_id, "paused")
        assert "It is paused by operator of" in found["sentence"]
        assert ": Let me look. Its last change" in found["sentence"]
        assert (await api.post(f"/v1/agents/{session_id}/resume", {})).status_code == 200
        await until(api, session_id, "ended")


async def test_a_chat_between_messages(temporal: Client, store_url: str, hot: Hot) -> None:
    """It has answered and waits for whoever wrote to it."""
    async with stack(temporal, store_url, hot, replies=[answer("Hello.")]) as (api, _):
        session_id = await start(api, mode="chat")
        found = await until(api, session_id, "awaiting_input")
        assert found["waits_for"] == "person"
        await api.post(f"/v1/agents/{session_id}/cancel", {})
        await until(api, session_id, "ended")


async def test_a_tool_whose_own_failure_is_not_ours_is_not_quoted(temporal: Client, store_url: str, hot: Hot) -> None:
    """An exception's text may hold anything: of a fault only our own sentence is told."""

    async def faulty(_arguments: Say, _call: Call) -> ToolResult:
        raise RuntimeError("postgresql://user:swordfish@db/x")

    tool = FakeTool(run=faulty, facts=Facts(replayable=True))
    async with stack(temporal, store_url, hot, replies=[calls(("web_fetch", {"text": "x"}))], tools=[tool]) as (api, _):
        found = await until(api, await start(api, "web_fetch"), "tool_retry")
    assert "swordfish" not in str(found)


async def test_a_start_that_did_not_arrive(api: Api, database: Database, hot: Hot) -> None:
    """Temporal was away when the session was asked for: it does not know it, and the caller may send the start again."""
    async with serving(database, await nowhere(), hot) as broken:
        half = Api(broken.http, broken.deps, broken.hand, api.org, api.secrets)
        is_problem(
            await half.post("/v1/agents/run", HELLO, headers={"Idempotency-Key": "e-1"}), 503, "engine_unavailable"
        )
    session_id = (await api.get("/v1/agents")).json()["data"][0]["session_id"]
    found = await why(api, session_id)
    assert (found["reason"], found["facts"]["stored"]["start_state"]) == ("not_started", "starting")


async def test_terminated_in_temporal(api: Api) -> None:
    """Its workflow is gone and its end is not written yet: the reconciler will."""
    session_id = await api.start()
    await api.deps.engine.client.get_workflow_handle(session_id).terminate()
    found = await until(api, session_id, "ended_in_engine")
    assert found["facts"]["engine"]["workflow"] == "closed"


@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_temporal_away(how: str, database: Database, hot: Hot, tmp_path: Path) -> None:
    """The answer is the database's alone, within 5 s, and says so; an ended session is explained as ever."""
    await Tools(database).publish("main", PUBLISHED)
    async with temporal_in(tmp_path) as server:
        client = await Client.connect(server.address, data_converter=pydantic_data_converter)
        async with serving(database, Engine(client, new_id("queue")), hot) as api:
            waiting, ended = await api.start(), await api.start()
            approval = await api.hand.ask(waiting)
            await api.hand.finish(ended)
            if how == "dead":
                await server.stop()
                await _without_temporal(api, waiting, ended, approval)
            else:
                with frozen(server.child):
                    await _without_temporal(api, waiting, ended, approval)
                assert (await why(api, waiting))["facts"]["engine"]["reachable"] is True


async def _without_temporal(api: Api, waiting: str, ended: str, approval: dict[str, Any]) -> None:
    async with quickly():
        found = await why(api, waiting)
    assert (found["reason"], found["waits_for"]) == ("engine_down", "operator")
    assert found["facts"]["engine"] == {
        "reachable": False, "workflow": "unknown", "workflow_task": None, "activities": [], "queues": [],
    }  # fmt: skip
    assert [item["reason"] for item in found["also"]] == ["awaiting_approval"]
    assert approval["id"] in found["also"][0]["sentence"]
    began = time.monotonic()
    assert (await why(api, ended))["reason"] == "ended"
    assert time.monotonic() - began < 1.5, "Temporal is not asked about what has ended"


@pytest.mark.timeout(120)
async def test_postgres_away(standing_in: Engine, redis_url: str, tmp_path: Path) -> None:
    """The answer comes from the copy and says so; of another session, of which there is none, it is 503; within 5 s each."""
    hot = Hot(redis_url)
    async with postgres_in(tmp_path) as server:
        database = Database(await migrated_database(server), size=4)
        await Tools(database).publish("main", PUBLISHED)
        async with serving(database, standing_in, hot) as api:
            session_id, unread = await api.start(), await api.start()
            await api.hand.ask(session_id)
            version = (await api.get(f"/v1/agents/{session_id}")).json()["version"]

            async def copied() -> bool:
                copy = await hot.get(api.org, session_id)
                return copy is not None and copy.version == version

            await wait_until(copied, "the copy")
            await api.deps.copies.close()
            await hot._redis.delete(f"conductor:{api.org}:snapshot:{unread}")
            with frozen(server.child):
                async with quickly():
                    found = await why(api, session_id)
                assert found["reason"] == "awaiting_approval"
                assert found["facts"]["stored"]["degraded"] is True
                assert found["facts"]["stored"]["start_state"] is None
                assert found["facts"]["engine"]["workflow"] == "running"
                async with quickly():
                    is_problem(await api.get(f"/v1/agents/{unread}/explain"), 503, "store_unavailable")
        await database.close()
    await hot.close()


async def test_whose_it_is(api: Api) -> None:
    """Another organisation's session is a 404 like one that never was, whatever its id looks like."""
    session_id = await api.start()
    stranger = await api.other()
    for url in (session_id, new_id("sess"), "sess_x", new_id("appr")):
        is_problem(await stranger.get(f"/v1/agents/{url}/explain"), 404, "not_found")
    is_problem(await api.http.get(f"/v1/agents/{session_id}/explain"), 401, "unauthenticated")
