"""Decisions and the workflow: registered before shown, first one wins, late is late, and a verdict is always an answer."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import Client

from activities.tools.base import Call
from conductor_ai.contracts.decisions import DecisionRequest, Verdict, VerdictKind
from conductor_ai.contracts.status import CallState, Status
from conductor_ai.contracts.tools import Consequence
from conductor_ai.names import DECIDE
from tests.fixtures_servers import wait_until
from tests.gates import Held, activity_worker, workflow_worker
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool, Say

QUERY = calls(("sql_query", {"text": "select 1"}))


class Slow(FakeTool):
    """Takes its time to look up the consequence."""

    def __init__(self) -> None:
        super().__init__("sql_query")
        self.preparing, self.go_on = asyncio.Event(), asyncio.Event()

    async def prepare(self, arguments: Say, call: Call, /) -> Consequence:
        self.preparing.set()
        await self.go_on.wait()
        return await super().prepare(arguments, call)


async def first_call(r: Rig, session_id: str) -> Any:
    """The session's first call, as it is stored."""
    return (await r.view(session_id)).steps[0].actions[0]


async def send(r: Rig, session_id: str, call: Any, decision: str, *, update: bool) -> Verdict | None:
    """Decide about a call that nobody is shown yet."""
    request = DecisionRequest.model_validate(
        {"call_id": call.call_id, "decision": decision, "arguments_sha256": call.arguments_sha256}
    )
    if update:
        return await r.engine.decide(session_id, request.model_copy(update={"via": "api", "by": "ann"}), seconds=10)
    await r.handle(session_id).signal(DECIDE, request)
    return None


@pytest.mark.parametrize("update", [True, False], ids=["update", "signal"])
async def test_decided_while_it_is_prepared(temporal: Client, store_url: str, task_queue: str, update: bool) -> None:
    """A decision that comes before the approval's row is written counts: the call is registered first."""
    tool = Slow()
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(tool.preparing.wait(), 20)
        verdict = await send(r, session_id, await first_call(r, session_id), "approve", update=update)
        tool.go_on.set()
        view = await r.ended(session_id)
    assert verdict is None or verdict.kind is VerdictKind.ACCEPTED
    assert view.steps[0].actions[0].status is CallState.SUCCEEDED
    assert len(tool.runs) == 1


async def test_signalled_before_the_call_is_known(temporal: Client, store_url: str, task_queue: str) -> None:
    """The signal and the answer with the call come in one activation, the signal first: it waits for its call."""
    tool, provider = FakeTool("sql_query"), Held([QUERY, answer()], at=1)
    async with (
        rig(temporal, store_url, task_queue, provider=provider, tools=[tool], run=False) as r,
        activity_worker(r),
    ):
        async with workflow_worker(r):
            session_id = await r.start()
            await asyncio.wait_for(provider.asked.wait(), 20)
        provider.go_on.set()

        async def stored() -> bool:
            return bool((await r.view(session_id)).steps)

        await wait_until(stored, "the journalled answer")
        await send(r, session_id, await first_call(r, session_id), "deny", update=False)
        async with workflow_worker(r):
            view = await r.ended(session_id)
    assert view.steps[0].actions[0].status is CallState.DENIED
    assert tool.runs == []


async def test_verdicts(temporal: Client, store_url: str, task_queue: str) -> None:
    """Wrong digest, unknown call, accepted, the same again under another id, contrary, and after the end: all answers."""
    provider = Held([QUERY, answer()], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        kinds = [
            (await r.decide(approval, "approve", arguments_sha256="0" * 64)).kind,
            (await r.decide(approval, "approve", call_id="call_of_nobody")).kind,
            (await r.decide(approval, "approve", by="ann")).kind,
            (await r.decide(approval, "approve", by="bob")).kind,
            (await r.decide(approval, "deny", by="bob")).kind,
        ]
        provider.go_on.set()
        await r.ended(session_id)
        request = DecisionRequest(
            call_id=approval.call_id, decision="deny", arguments_sha256=approval.arguments_sha256, via="api"
        )
        late = await r.engine.decide(session_id, request, seconds=5)
        stored = await r.snapshots.approval(ORG, approval.id)
    assert kinds == ["digest_mismatch", "unknown_call", "accepted", "same_again", "already_decided"]
    assert late is None  # a closed workflow takes no update: the caller reads the row
    assert stored is not None
    assert [(d.by, d.counted) for d in stored.decisions] == [("ann", True)]


async def test_the_same_update_id_answers_the_same(temporal: Client, store_url: str, task_queue: str) -> None:
    """A repeated request has the same update id: Temporal answers with the stored verdict, nothing is decided again."""
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        first = await r.decide(approval, "approve", decision_id="mine")
        again = await r.decide(approval, "approve", decision_id="mine")
        await r.ended(session_id)
    assert first.kind is VerdictKind.ACCEPTED
    assert again == first


async def test_late_by_the_clock_before_the_timer_was_handled(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """Decision and timer come in one activation, the decision first, after the expiry: a naive `is it pending` accepts it."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool], run=False) as r:
        async with activity_worker(r):
            async with workflow_worker(r):
                session_id = await r.start(approval_ttl_seconds=1)
                [approval] = await r.pending(session_id)

            async def past() -> bool:
                return datetime.now(UTC) > approval.expires_at + timedelta(milliseconds=50)

            await wait_until(past, "the expiry")
            await r.signal(approval, "approve")
            async with workflow_worker(r):
                view = await r.ended(session_id)
        stored = await r.snapshots.approval(ORG, approval.id)
    assert view.steps[0].actions[0].status is CallState.EXPIRED
    assert tool.runs == []
    assert stored is not None
    assert stored.status == "expired"


async def test_parallel_denials_are_both_recorded(temporal: Client, store_url: str, task_queue: str) -> None:
    """Denials that come while another is being recorded wait for the clock and go together: none is lost."""
    tool = FakeTool("sql_query")
    four = calls(*(("sql_query", {"text": str(number)}) for number in range(4)))
    recording, go_on = asyncio.Event(), asyncio.Event()
    batches: list[int] = []
    async with rig(temporal, store_url, task_queue, replies=[four, answer()], tools=[tool], run=False) as r:
        record = r.parts.snapshot._changes.record

        async def hooked(fence: Any, run_id: str, clock: int, changes: Any) -> Any:
            batches.append(len(changes))
            recording.set()
            await go_on.wait()
            return await record(fence, run_id, clock, changes)

        r.parts.snapshot._changes.record = hooked  # type: ignore[method-assign]
        async with activity_worker(r), workflow_worker(r):
            session_id = await r.start()
            approvals = await r.pending(session_id, 4)
            await r.decide(approvals[0], "deny", comment="first")
            await asyncio.wait_for(recording.wait(), 20)
            for approval in approvals[1:]:
                await r.decide(approval, "deny")
            go_on.set()
            view = await r.ended(session_id)
    assert view.status is Status.COMPLETED
    assert [action.status for action in view.steps[0].actions] == [CallState.DENIED] * 4
    assert batches == [1, 3]


async def test_signals_can_be_refused(temporal: Client, store_url: str, task_queue: str) -> None:
    """With the setting off a signal decides nothing, whatever it claims to be; the update does."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start(allow_signals=False)
        [approval] = await r.pending(session_id)
        body = {"call_id": approval.call_id, "decision": "approve", "arguments_sha256": approval.arguments_sha256}
        await r.handle(session_id).signal(DECIDE, {**body, "via": "api", "by": "the boss"})
        await r.handle(session_id).signal(DECIDE, {"no": "decision at all"})
        assert (await r.decide(approval, "deny")).kind is VerdictKind.ACCEPTED
        view = await r.ended(session_id)
    assert view.steps[0].actions[0].status is CallState.DENIED


async def test_unstorable_signals_are_stored(temporal: Client, store_url: str, task_queue: str) -> None:
    """A signal with U+0000 in its decision id and comment: the denial is written, and the session ends."""
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        body = {"call_id": approval.call_id, "decision": "deny", "arguments_sha256": approval.arguments_sha256}
        await r.handle(session_id).signal(DECIDE, {**body, "decision_id": "\0", "comment": "no\0"})
        view = await r.ended(session_id)
    assert view.steps[0].actions[0].status is CallState.DENIED
    assert "no\ufffd" in (view.steps[0].observation or "")


async def test_a_call_that_cannot_be_prepared_is_an_observation(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """The tool is gone when people are to be asked (another worker took over): the model is told, the session goes on."""
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[FakeTool("sql_query")]) as r:
        r.parts.registry.arguments = lambda *_: None  # type: ignore[method-assign]
        view = await r.ended(await r.start())
    assert view.status is Status.COMPLETED
    assert view.steps[0].actions[0].status is CallState.FAILED
    assert view.pending_approvals == ()


async def test_a_consequence_that_cannot_be_looked_up(temporal: Client, store_url: str, task_queue: str) -> None:
    """A mistake in the tool's look-up is not repeated for ever: people are asked, and told that it is not known."""

    class Broken(FakeTool):
        async def prepare(self, arguments: Say, call: Call, /) -> Consequence:
            raise RuntimeError("a mistake")

    replies = [QUERY, answer()]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[Broken("sql_query")]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await r.decide(approval, "approve")
        view = await r.ended(session_id)
    assert approval.risk == "high"
    assert "not available" in approval.evidence[0].value
    assert view.steps[0].actions[0].status is CallState.SUCCEEDED
