"""The session workflow on a real Temporal server with a real Postgres: every task is replayed (no cache)."""

import asyncio

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError

from conductor_ai.contracts.decisions import VerdictKind
from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop, Usage
from conductor_ai.contracts.status import CallState, Phase, Status, StopReason
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.testing import ScriptedProvider
from tests.rig import Rig, answer, calls, rig
from tests.tools import FakeTool, Say

pytestmark = pytest.mark.parametrize("sandboxed", [False, True], ids=["unsandboxed", "sandboxed"])


async def test_a_session_answers(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """A tool call and an answer: the snapshot shows both steps, the workflow completes with the session's id as its own."""
    tool = FakeTool("web_fetch")
    replies = [calls(("web_fetch", {"text": "hello"})), answer("It said hello.")]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool], worker_sandboxed=sandboxed) as r:
        session_id = await r.start("Say hello.")
        result = await r.handle(session_id).result()
        view = await r.ended(session_id)
    assert result["status"] == "completed"
    assert (view.status, view.stop_reason, view.final_answer) == (
        Status.COMPLETED,
        StopReason.FINAL_ANSWER,
        "It said hello.",
    )
    assert [step.step_number for step in view.steps] == [1, 2]
    assert view.steps[0].observation == "echo: hello"
    assert view.steps[1].is_final
    assert (view.input_tokens, view.output_tokens, view.phase) == (150, 30, Phase.DONE)
    assert len(tool.runs) == 1
    assert isinstance(r.provider, ScriptedProvider)
    said = r.provider.requests[1].turns
    assert [turn.role for turn in said] == ["user", "assistant", "tool"]


async def test_approved_runs_once(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """A call that is asked runs only after the approval of its digest, and the record says who approved."""
    tool = FakeTool("sql_query")
    replies = [calls(("sql_query", {"text": "select 1"})), answer()]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool], worker_sandboxed=sandboxed) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        before = await r.view(session_id)
        assert (before.phase, tool.runs) == (Phase.AWAITING_APPROVAL, [])
        wrong = await r.decide(approval, "approve", arguments_sha256="0" * 64)
        assert wrong.kind is VerdictKind.DIGEST_MISMATCH
        assert (await r.decide(approval, "approve")).kind is VerdictKind.ACCEPTED
        assert (await r.decide(approval, "approve")).kind in (VerdictKind.SAME_AGAIN, VerdictKind.CLOSED)
        view = await r.ended(session_id)
        stored = await r.snapshots.approval("org_test", approval.id)
    assert view.status is Status.COMPLETED
    assert len(tool.runs) == 1
    assert stored is not None
    assert (stored.status, stored.execution.state) == ("approved", "succeeded")
    assert [(d.by, d.verified, d.counted) for d in stored.decisions] == [("a person", True, True)]


async def test_denied_never_runs(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """A denied call does not run; the model is told who said what; a signal is recorded as unverified."""
    tool = FakeTool("sql_query")
    replies = [calls(("sql_query", {"text": "delete"})), answer("I left it.")]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool], worker_sandboxed=sandboxed) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await r.signal(approval, "deny")
        view = await r.ended(session_id)
        stored = await r.snapshots.approval("org_test", approval.id)
    assert view.steps[0].actions[0].status is CallState.DENIED
    assert "denied" in (view.steps[0].observation or "")
    assert tool.runs == []
    assert stored is not None
    assert [(d.by, d.verified) for d in stored.decisions] == [("temporal-access", False)]


async def test_one_waiting_call_does_not_hold_up_the_others(
    temporal: Client, store_url: str, task_queue: str, sandboxed: bool
) -> None:
    """Parallel calls run in parallel; one that waits for a person holds nobody up, and all results reach the model."""
    both = asyncio.Barrier(2)

    async def meet(arguments: Say, _call: object) -> ToolResult:
        async with asyncio.timeout(10):
            await both.wait()
        return ToolResult(ok=True, content=arguments.text)

    fetch, ask = FakeTool("web_fetch", meet), FakeTool("sql_query")
    first = calls(("web_fetch", {"text": "a"}), ("sql_query", {"text": "q"}), ("web_fetch", {"text": "b"}))
    async with rig(
        temporal, store_url, task_queue, replies=[first, answer()], tools=[fetch, ask], worker_sandboxed=sandboxed
    ) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await asyncio.wait_for(_both_settled(r, session_id), 10)
        await r.decide(approval, "approve")
        view = await r.ended(session_id)
    assert [a.observation for a in view.steps[0].actions] == ["a", "echo: q", "b"]
    assert view.status is Status.COMPLETED


async def _both_settled(r: Rig, session_id: str) -> None:
    while True:
        actions = (await r.view(session_id)).steps[0].actions
        if [a.status for a in actions if a.tool_name == "web_fetch"] == [CallState.SUCCEEDED] * 2:
            return
        await asyncio.sleep(0.02)


async def test_bad_calls_are_observations(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """A tool outside of the list, an unknown tool and bad arguments: told to the model, none runs, the session goes on."""
    inside, outside = FakeTool("web_fetch"), FakeTool("sql_query")
    first = calls(("sql_query", {"text": "x"}), ("no_such_tool", {}), ("web_fetch", {"wrong": 1}))
    async with rig(
        temporal, store_url, task_queue, replies=[first, answer()], tools=[inside, outside], worker_sandboxed=sandboxed
    ) as r:
        session_id = await r.start(tools=("web_fetch",))
        view = await r.ended(session_id)
    assert [a.status for a in view.steps[0].actions] == [CallState.INVALID] * 3
    assert [(a.error or {}).get("code") for a in view.steps[0].actions] == [
        "unknown_tool",
        "unknown_tool",
        "invalid_arguments",
    ]
    assert view.status is Status.COMPLETED
    assert (inside.runs, outside.runs) == ([], [])


async def test_out_of_steps_is_a_failure(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """A session that runs out of steps is failed with `max_steps`, never completed."""
    replies = [calls(("web_fetch", {"text": str(i)})) for i in range(5)]
    async with rig(
        temporal, store_url, task_queue, replies=replies, tools=[FakeTool()], worker_sandboxed=sandboxed
    ) as r:
        session_id = await r.start(max_steps=3)
        with pytest.raises(WorkflowFailureError):
            await r.handle(session_id).result()
        view = await r.ended(session_id)
    assert (view.status, view.stop_reason, len(view.steps)) == (Status.FAILED, StopReason.MAX_STEPS, 3)
    assert view.error is not None
    assert view.error.code == "max_steps"


async def test_cancel_while_a_tool_runs(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """A cancel reaches the tool, the session ends cancelled, and Temporal says CANCELED too."""

    async def forever(_arguments: Say, _call: object) -> ToolResult:
        await asyncio.Event().wait()
        raise AssertionError

    tool = FakeTool("web_fetch", forever)
    async with rig(
        temporal,
        store_url,
        task_queue,
        replies=[calls(("web_fetch", {"text": "x"}))],
        tools=[tool],
        worker_sandboxed=sandboxed,
    ) as r:
        session_id = await r.start()
        await asyncio.wait_for(tool.begun.wait(), 10)
        await r.sessions.request_cancel("org_test", session_id, "enough")
        await r.engine.cancel(session_id)
        view = await r.ended(session_id)
        state = await r.engine.state(session_id)
    assert tool.cancelled.is_set()
    assert (view.status, view.stop_reason) == (Status.CANCELLED, StopReason.CANCELLED)
    assert state is not None
    assert state[1] is WorkflowExecutionStatus.CANCELED


async def test_continue_as_new_loses_nothing(
    temporal: Client, store_url: str, task_queue: str, sandboxed: bool
) -> None:
    """Continue-as-new in mid-session: the first run's status says so, and steps, tokens and results are complete."""
    replies = [*(calls(("web_fetch", {"text": str(i)})) for i in range(5)), answer("end")]
    async with rig(
        temporal, store_url, task_queue, replies=replies, tools=[FakeTool()], worker_sandboxed=sandboxed
    ) as r:
        session_id = await r.start(continue_as_new_steps=2)
        first = await r.engine.current_run(session_id)
        view = await r.ended(session_id)
        described = await r.client.get_workflow_handle(session_id, run_id=first).describe()
    assert described.status is WorkflowExecutionStatus.CONTINUED_AS_NEW
    assert [step.step_number for step in view.steps] == [1, 2, 3, 4, 5, 6]
    assert [step.observation for step in view.steps[:5]] == [f"echo: {i}" for i in range(5)]
    assert view.input_tokens == 5 * 100 + 50


async def test_a_cut_tool_call_is_never_run(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """`max_tokens` in the middle of a call: nothing runs, the model is asked once more, the second time it fails."""
    cut = ModelReply(
        stop=Stop.MAX_TOKENS,
        text="Let me",
        calls=(ProposedCall(provider_id="t", tool="web_fetch", arguments={"text": "half"}),),
        usage=Usage(input=1, output=1),
    )
    tool = FakeTool()
    async with rig(
        temporal, store_url, task_queue, replies=[cut, answer("short")], tools=[tool], worker_sandboxed=sandboxed
    ) as r:
        good = await r.ended(await r.start())
    async with rig(
        temporal, store_url, task_queue + "b", replies=[cut, cut], tools=[tool], worker_sandboxed=sandboxed
    ) as r:
        bad = await r.ended(await r.start())
    assert (good.status, good.final_answer, len(good.steps)) == (Status.COMPLETED, "short", 1)
    assert bad.error is not None
    assert (bad.status, bad.error.code) == (Status.FAILED, "model_output_limit")
    assert tool.runs == []


async def test_failures_of_the_model(temporal: Client, store_url: str, task_queue: str, sandboxed: bool) -> None:
    """A retryable failure is repeated and shown; a permanent one fails the session with its code and keeps the steps."""
    again = ModelFailure(
        "Overloaded.", code=Code.MODEL_UNAVAILABLE, retryable=True, retry_after=0.05, kind="overloaded"
    )
    never = ModelFailure("Bad key.", code=Code.MODEL_AUTHENTICATION, retryable=False, kind="authentication")
    replies: list[ModelReply | Exception] = [again, calls(("web_fetch", {"text": "x"})), never]
    async with rig(
        temporal, store_url, task_queue, replies=replies, tools=[FakeTool()], worker_sandboxed=sandboxed
    ) as r:
        view = await r.ended(await r.start())
    assert (view.status, view.stop_reason, len(view.steps)) == (Status.FAILED, StopReason.ERROR, 1)
    assert view.error is not None
    assert (view.error.code, view.error.message) == ("model_authentication", "Bad key.")
    assert view.steps[0].attempts == 2
