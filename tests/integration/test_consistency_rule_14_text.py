"""U+0000 and lone surrogates, wherever text comes in: stored with U+FFFD, and never a write that cannot succeed."""

from typing import Any

import asyncpg
import pytest
from temporalio.client import Client

from activities.tools.base import Call
from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop
from conductor_ai.contracts.session import CallFailed, SessionInput
from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.contracts.tools import Column, Consequence, ToolError, ToolResult
from conductor_ai.names import new_id
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import IdempotencyKey, Message, NewSession
from conductor_ai.testing import ScriptedProvider
from tests.places import ORG, Place, asking, call, decision_of, fence
from tests.rig import answer, rig
from tests.tools import FakeTool, Say

BAD = "a\0b\ud800c"
GOOD = "a\ufffdb\ufffdc"


async def test_naive_writes_fail(database: Database) -> None:
    """What the rule is for: jsonb refuses U+0000, and so does text; the same write fails at every retry."""
    place = Place(database)
    for sql in ("SELECT $1::jsonb", "SELECT $1::text"):
        with pytest.raises((asyncpg.DataError, UnicodeEncodeError)):
            await place.value(sql, "a\0b")
        with pytest.raises((asyncpg.DataError, UnicodeEncodeError)):
            await place.value(sql, "a\ud800b")


async def test_what_a_caller_sends(database: Database) -> None:
    """Title, messages, system prompt, metadata (keys too), warnings, reasons, comments."""
    place = Place(database)
    session_id = new_id("sess")
    given: dict[str, Any] = {"session_id": session_id, "org_id": ORG, "model": "demo", "tools": (), "max_steps": 3}
    new = NewSession(
        SessionInput.model_validate({**given, "title": BAD}),
        (Message("user", BAD),),
        title=BAD,
        system_prompt=BAD,
        metadata={BAD: {BAD: [BAD]}},
        warnings=(BAD,),
    )
    started = await place.sessions.create(new, IdempotencyKey("route", new_id("key"), "sha"))
    assert started.input.title == GOOD
    stored = call("sql_query")
    await place.answered(session_id, "run", 1, stored)
    await place.asked_about(session_id, "run", stored)
    await place.intentions.intend(ORG, decision_of(stored, decision_id=BAD, by=BAD, comment=BAD))
    await place.sessions.decided(session_id, decision_of(stored, "deny", decision_id=BAD + "2", by=BAD, comment=BAD))
    await place.sessions.request_cancel(ORG, session_id, BAD)
    view = await place.view(session_id)
    assert (view.title, view.metadata, view.warnings) == (GOOD, {GOOD: {GOOD: [GOOD]}}, (GOOD,))
    assert GOOD in (view.steps[0].actions[0].observation or "")


async def test_what_activities_write(database: Database) -> None:
    """Model text, arguments, consequences, tool results, messages of failures, the error of the end."""
    place = Place(database)
    session_id, stored, other = await place.session(), call("sql_query"), call()
    result = ToolResult(ok=False, content=BAD, data={BAD: BAD}, error=ToolError(code="x", message=BAD))
    reply = ModelReply(stop=Stop.TOOL_CALLS, text=BAD, native=({"thinking": BAD},))
    await place.answered(session_id, "run", 1, stored, other, reply=reply)
    shown = Consequence(summary=BAD, evidence=(Column(label=BAD, value=BAD),), data={BAD: BAD})
    await place.calls.ask(fence(session_id), "run", asking(stored, shown))
    await place.calls.claim(fence(session_id), "run", 1, other.call_id, decision=None, must_be_approved=False)
    await place.calls.released(fence(session_id), "run", 1, other.call_id, next_at=None, reason=BAD)
    await place.calls.claim(fence(session_id), "run", 2, other.call_id, decision=None, must_be_approved=False)
    await place.calls.settled(session_id, "run", 2, other.call_id, CallState.FAILED, result)
    await place.changes.record(fence(session_id), "run", 1, (CallFailed(call_id=stored.call_id, message=BAD),))
    await place.finish(session_id, "run", StopReason.ERROR, error_code="internal", error_message=BAD)
    view = await place.view(session_id)
    assert view.error is not None
    assert view.error.message == GOOD
    assert view.steps[0].thought == GOOD
    assert view.steps[0].actions[1].observation == GOOD


async def test_a_whole_session(temporal: Client, store_url: str, task_queue: str) -> None:
    """A model and a tool that speak in such text, an approval with such a comment: the session ends, in one attempt each."""

    async def bad(_arguments: Say, _call: Call) -> ToolResult:
        return ToolResult(ok=True, content=BAD, data=[BAD])

    wants = ModelReply(
        stop=Stop.TOOL_CALLS,
        text=BAD,
        calls=(
            ProposedCall(provider_id=BAD, tool="sql_query", arguments={"text": BAD}),
            ProposedCall(provider_id="2", tool=BAD, arguments={BAD: BAD}),
            ProposedCall(provider_id="3", tool="sql_query", arguments=None, raw=BAD),
        ),
    )
    shown = Consequence(summary=BAD, evidence=(Column(label=BAD, value=BAD),))
    tool = FakeTool("sql_query", bad, consequence=shown)
    provider = ScriptedProvider([wants, answer(BAD)])
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start("a\0b")
        [approval] = await r.pending(session_id)
        assert tool.prepared == 1
        await r.decide(approval, "approve", comment="fine\0", decision_id="d\0", by="an\0n")
        view = await r.ended(session_id)
    assert (view.status, view.final_answer) == (Status.COMPLETED, GOOD)
    assert [action.status.value for action in view.steps[0].actions] == ["succeeded", "invalid", "invalid"]
    assert view.steps[0].actions[0].observation == GOOD
    assert len(tool.runs) == 1
    assert len(provider.requests) == 2
