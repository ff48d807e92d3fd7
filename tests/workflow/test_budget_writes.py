"""New limits are merged by the workflow and written by its activity, in the order in which it took them."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import Client, WorkflowUpdateStage

from activities.providers.base import Listener
from conductor_ai import names, ports
from conductor_ai.contracts.control import BudgetRequest, ControlAnswer, ControlKind, LimitName, Limits
from conductor_ai.contracts.models import ModelReply, ModelRequest
from conductor_ai.contracts.session import RecordInput, RecordOutcome
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.stores.call_changes import Changes
from tests.fixtures_servers import wait_until
from tests.gates import Held, activity_worker, reset_before, workflow_worker
from tests.rig import Rig, answer, calls, rig
from tests.tools import FakeTool
from tests.workflow.test_conversation import phase

FETCH = calls(("web_fetch", {"text": "x"}))


def asks(name: LimitName, value: int) -> BudgetRequest:
    """A request for one limit."""
    return BudgetRequest(limits=Limits.model_validate({name: value}), named=(name,), by="ann")


async def told(r: Rig, session_id: str, request: BudgetRequest) -> ControlAnswer:
    """What the workflow says."""
    answered = await r.engine.control(session_id, names.SET_BUDGET, request, seconds=20)
    assert answered is not None
    return answered


class Slow:
    """Stops the first write of limits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        real = Changes.record

        async def record(changes: Changes, *given: Any) -> RecordOutcome:
            if given[-1][0].change == "limits_changed" and not self.begun.is_set():
                self.begun.set()
                await self.go_on.wait()
            return await real(changes, *given)

        monkeypatch.setattr(Changes, "record", record)


async def test_a_slow_write_does_not_land_on_a_later_one(
    temporal: Client, store_url: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write hangs while two more changes are taken: all are answered when they are stored, the last one stands."""
    slow = Slow(monkeypatch)
    async with rig(temporal, store_url, task_queue, replies=[answer()]) as r:
        session_id = await r.start(mode="chat", limits=Limits(max_total_tokens=1000))
        await phase(r, session_id, Phase.AWAITING_INPUT)
        wanted = asks("max_total_tokens", 2000), asks("max_cost_usd", 5), asks("max_total_tokens", 3000)
        asked: list[asyncio.Task[ControlAnswer]] = []
        for count, request in enumerate(wanted, 1):
            asked.append(asyncio.create_task(told(r, session_id, request)))
            limits = request.limits

            async def taken(limits: Limits = limits, name: str = request.named[0]) -> bool:
                state = await r.handle(session_id).query(names.STATE, result_type=dict[str, Any])
                held = Limits.model_validate(state["limits"] or {})
                return bool(getattr(held, name) == getattr(limits, name))

            await wait_until(taken, f"the workflow to take change {count}", 20)
            await asyncio.wait_for(slow.begun.wait(), 20)
        assert not any(task.done() for task in asked), "nobody is told before it is stored"
        slow.go_on.set()
        answers = await asyncio.gather(*asked)
        view = await r.view(session_id)
        await r.handle(session_id).cancel()
        await r.ended(session_id)
    assert [(a.limits.max_cost_usd, a.limits.max_total_tokens) for a in answers] == [
        (None, 2000),
        (Decimal(5), 2000),
        (Decimal(5), 3000),
    ]
    assert view.budget is not None
    assert (view.budget.max_cost_usd, view.budget.max_total_tokens) == (5, 3000)


async def test_a_change_that_the_end_overtakes(
    temporal: Client, store_url: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken while the model answers, not stored before the end is: the caller hears that the session has ended."""
    slow = Slow(monkeypatch)
    provider = Held([answer("done")], at=1)
    async with rig(temporal, store_url, task_queue, provider=provider) as r:
        session_id = await r.start(limits=Limits(max_total_tokens=1000))
        await asyncio.wait_for(provider.asked.wait(), 20)
        asked = asyncio.create_task(told(r, session_id, asks("max_total_tokens", 2000)))
        await asyncio.wait_for(slow.begun.wait(), 20)
        provider.go_on.set()

        async def over() -> bool:
            return (await r.view(session_id)).status.ended

        await wait_until(over, "the end", 20)
        slow.go_on.set()
        assert (await asked).kind is ControlKind.CLOSED
        view = await r.ended(session_id)
    assert (view.status, view.final_answer) == (Status.COMPLETED, "done")


async def test_it_claims_no_answer_that_is_to_come(temporal: Client, store_url: str, task_queue: str) -> None:
    """Written beside a model call: the write names that call as not done, so that a run after a reset does not keep the
    earlier run's answer to it."""
    async with rig(temporal, store_url, task_queue, replies=[answer()], run=False) as r, workflow_worker(r):
        session_id = await r.start(mode="chat")
        handle = r.handle(session_id)
        scheduled: dict[str, Any] = {}

        async def both(wanted: str) -> bool:
            async for event in handle.fetch_history_events():
                attributes = event.activity_task_scheduled_event_attributes
                if attributes.activity_type.name:
                    scheduled[attributes.activity_type.name] = attributes.input.payloads
            return wanted in scheduled

        await wait_until(lambda: both(ports.CALL_MODEL), "the model call", 20)
        update = await handle.start_update(
            names.SET_BUDGET,
            asks("max_total_tokens", 2000),
            wait_for_stage=WorkflowUpdateStage.ACCEPTED,
            result_type=ControlAnswer,
        )
        await wait_until(lambda: both(ports.RECORD), "the write", 20)
        [written] = await r.client.data_converter.decode(scheduled[ports.RECORD], [RecordInput])
        assert written.fence.next_call_no == 1
        async with activity_worker(r):
            assert (await update.result()).kind is ControlKind.ACCEPTED
            await phase(r, session_id, Phase.AWAITING_INPUT)
            await handle.cancel()
            await r.ended(session_id)


class HeldFrom(Held):
    """Stops at one request and at all after it, until it is let go."""

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """The next step."""
        reply = await super().complete(request, listener)
        if len(self.requests) > self._at:
            await self.go_on.wait()
        return reply


async def test_after_a_reset_it_takes_back_no_answer_that_is_kept(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """Reset to the moment when an answer came, after a change of the budget: Temporal sends the change again, together with
    the answer. The new run writes it behind that answer, and the next call is asked with it."""
    tool = FakeTool()
    provider = HeldFrom([FETCH, answer("of the old run"), answer("of the new run")], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start(limits=Limits(max_total_tokens=100_000))
        await asyncio.wait_for(provider.asked.wait(), 20)
        assert (await told(r, session_id, asks("max_total_tokens", 200_000))).kind is ControlKind.ACCEPTED
        await reset_before(r, session_id, "call_model", index=1)
        written: list[RecordInput] = []

        async def both() -> bool:
            written.clear()
            async for event in r.handle(session_id).fetch_history_events():
                attributes = event.activity_task_scheduled_event_attributes
                if attributes.activity_type.name == ports.RECORD:
                    written.extend(await r.client.data_converter.decode(attributes.input.payloads, [RecordInput]))
            return bool(written) and len(provider.requests) == 3

        await wait_until(both, "the write and the call of the new run", 20)
        provider.go_on.set()
        view = await r.ended(session_id)
    assert [change.fence.next_call_no for change in written] == [2]
    assert [turn.role for turn in provider.requests[-1].turns] == ["user", "assistant", "tool"]
    assert (view.status, view.final_answer, len(tool.runs)) == (Status.COMPLETED, "of the new run", 1)
