"""The shapes of sessions whose histories are kept: each makes one on a real server and returns its histories."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

from temporalio.client import Client, WorkflowHistory

from activities.tools.base import Call
from conductor_ai import names
from conductor_ai.contracts.control import BudgetRequest, Limits
from conductor_ai.contracts.models import ModelReply, Usage
from conductor_ai.contracts.status import Phase
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.errors import Code, ModelFailure, ToolUnavailable
from conductor_ai.testing import ScriptedProvider
from tests.fixtures_servers import wait_until
from tests.gates import Held
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool, Say

FETCH = calls(("web_fetch", {"text": "x"}))
QUERY = calls(("sql_query", {"text": "select 1"}))

Made = dict[str, WorkflowHistory]
Make = Callable[[Client, str], Awaitable[Made]]


async def history(r: Rig, session_id: str, run_id: str | None = None) -> WorkflowHistory:
    """One run's history."""
    return await r.client.get_workflow_handle(session_id, run_id=run_id).fetch_history()


def _rig(client: Client, store_url: str, provider: ScriptedProvider) -> AbstractAsyncContextManager[Rig]:
    tools = [FakeTool("web_fetch"), FakeTool("sql_query")]
    return rig(client, store_url, f"queue_{uuid4().hex}", provider=provider, tools=tools)


def scripted(*steps: ModelReply | Exception) -> ScriptedProvider:
    """A model."""
    return ScriptedProvider(steps)


async def finished(client: Client, store_url: str) -> Made:
    """Parallel calls, one approved by update, one denied by signal, then the answer."""
    both = calls(("web_fetch", {"text": "x"}), ("sql_query", {"text": "a"}), ("sql_query", {"text": "b"}))
    async with _rig(client, store_url, scripted(both, FETCH, answer())) as r:
        session_id = await r.start()
        first, second = await r.pending(session_id, 2)
        await r.decide(first, "approve")
        await r.signal(second, "deny")
        await r.ended(session_id)
        return {"finished": await history(r, session_id)}


async def waiting(client: Client, store_url: str) -> Made:
    """A session that still waits for a person."""
    async with _rig(client, store_url, scripted(FETCH, QUERY)) as r:
        session_id = await r.start(deadline_seconds=3600)
        await r.pending(session_id)
        return {"waiting": await history(r, session_id)}


async def cancelled(client: Client, store_url: str) -> Made:
    """Cancelled while a call waits beside one that has run."""
    both = calls(("web_fetch", {"text": "x"}), ("sql_query", {"text": "a"}))
    async with _rig(client, store_url, scripted(both)) as r:
        session_id = await r.start()
        await r.pending(session_id)
        await r.sessions.request_cancel(ORG, session_id, None)
        await r.engine.cancel(session_id)
        await r.ended(session_id)
        return {"cancelled": await history(r, session_id)}


async def failed(client: Client, store_url: str) -> Made:
    """A model call that is repeated once and then refused."""
    busy = ModelFailure("Busy.", code=Code.MODEL_UNAVAILABLE, retryable=True, retry_after=0.01, kind="overloaded")
    never = ModelFailure("Bad key.", code=Code.MODEL_AUTHENTICATION, retryable=False, kind="authentication")
    async with _rig(client, store_url, scripted(busy, FETCH, never)) as r:
        session_id = await r.start()
        await r.ended(session_id)
        return {"failed": await history(r, session_id)}


async def expired(client: Client, store_url: str) -> Made:
    """An approval that nobody decided, and a deadline that ended the wait for the next one."""
    async with _rig(client, store_url, scripted(QUERY, QUERY)) as r:
        session_id = await r.start(approval_ttl_seconds=1, deadline_seconds=1.8)
        await r.ended(session_id)
        return {"expired": await history(r, session_id)}


async def continued(client: Client, store_url: str) -> Made:
    """Two runs of one session: the first ends with continue-as-new, the second with the answer."""
    provider = Held([FETCH, QUERY, FETCH, answer()], at=3)
    async with _rig(client, store_url, provider) as r:
        session_id = await r.start(continue_as_new_steps=2)
        first = await r.engine.current_run(session_id)
        [approval] = await r.pending(session_id)
        await r.decide(approval, "approve")
        await asyncio.wait_for(provider.asked.wait(), 20)
        provider.go_on.set()
        await r.ended(session_id)
        return {"continued-1": await history(r, session_id, first), "continued-2": await history(r, session_id)}


async def beside(client: Client, store_url: str) -> Made:
    """Calls that ran together with their answer, beside one that was given back."""

    async def away_once(arguments: Say, call: Call) -> ToolResult:
        if arguments.text == "away" and call.attempt == 0:
            raise ToolUnavailable("It is away.")
        return ToolResult(ok=True, content="here")

    both = calls(("web_fetch", {"text": "x"}), ("web_fetch", {"text": "away"}))
    tools = [FakeTool("web_fetch", away_once)]
    queue = f"queue_{uuid4().hex}"
    async with rig(client, store_url, queue, provider=scripted(FETCH, both, answer()), tools=tools) as r:
        session_id = await r.start()
        await r.ended(session_id)
        return {"beside": await history(r, session_id)}


async def edited(client: Client, store_url: str) -> Made:
    """Edited, asked again, approved and remembered; a grant approves the next one; another is answered by a person."""
    second, third = calls(("sql_query", {"text": "select 2"})), calls(("sql_query", {"text": "select 3"}))
    async with _rig(client, store_url, scripted(QUERY, second, third, answer())) as r:
        session_id = await r.start()
        await r.decide((await r.pending(session_id))[0], "edit", arguments={"text": "select 2"})
        again = await asked_in(r, session_id, step=1, round_=2)
        await r.decide(again, "approve", remember={"match": "exact"})
        await r.decide(await asked_in(r, session_id, step=3, round_=1), "answer", answer="three")
        await r.ended(session_id)
        return {"edited": await history(r, session_id)}


async def asked_in(r: Rig, session_id: str, *, step: int, round_: int) -> ApprovalView:
    """The approval of that step and round, once it is the one that waits."""

    async def there() -> bool:
        return [(a.step, a.round) for a in (await r.view(session_id)).pending_approvals] == [(step, round_)]

    await wait_until(there, "the approval", 20)
    return (await r.view(session_id)).pending_approvals[0]


async def chat(client: Client, store_url: str) -> Made:
    """A chat that pauses for its budget, is resumed by a higher one, and is cancelled while it waits for a message."""
    async with _rig(client, store_url, scripted(FETCH, answer("one"))) as r:
        session_id = await r.start(mode="chat", limits=Limits(max_total_tokens=1))
        await in_phase(r, session_id, Phase.PAUSED)
        raised = BudgetRequest(limits=Limits(max_total_tokens=1000))
        await r.engine.control(session_id, names.SET_BUDGET, raised, seconds=10)
        await in_phase(r, session_id, Phase.AWAITING_INPUT)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
        return {"chat": await history(r, session_id)}


async def in_phase(r: Rig, session_id: str, phase: Phase) -> None:
    """Wait for a phase."""

    async def there() -> bool:
        return (await r.view(session_id)).phase is phase

    await wait_until(there, phase.value, 20)


async def gave_up(client: Client, store_url: str) -> Made:
    """One model that stays busy through its attempts, one that is not served, and a third that goes on."""
    busy = ModelFailure("Busy.", code=Code.MODEL_UNAVAILABLE, retryable=True, retry_after=0.01, kind="overloaded")
    gone = ModelFailure("Gone.", code=Code.MODEL_REJECTED_REQUEST, retryable=False, kind="unknown_model")
    async with _rig(client, store_url, scripted(FETCH, busy, busy, gone, FETCH, answer())) as r:
        session_id = await r.start(fallback_models=("claude-haiku-5-5", "openai:mine"), model_max_attempts=2)
        await r.ended(session_id)
        return {"gave-up": await history(r, session_id)}


async def compacted(client: Client, store_url: str) -> Made:
    """A window that fills, a summary, one that does not fit at first, and a context that stays exceeded."""
    full = FETCH.model_copy(update={"usage": Usage(input=190_000, output=10)})
    exceeded = ModelFailure("Too long.", code=Code.CONTEXT_EXCEEDED, retryable=False, kind="context_exceeded")
    script = (full, answer("A summary."), FETCH, exceeded, exceeded, answer("A summary."), exceeded)
    async with _rig(client, store_url, scripted(*script)) as r:
        session_id = await r.start(model="claude-haiku-4-5", compact_at=0.8)
        await r.ended(session_id)
        return {"compacted": await history(r, session_id)}


SHAPES: tuple[Make, ...] = (
    finished,
    waiting,
    cancelled,
    failed,
    expired,
    continued,
    beside,
    edited,
    chat,
    gave_up,
    compacted,
)
