"""One end for each session: its transaction picks the outcome, and Temporal closes as the row says."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from activities.tools.base import Call
from conductor_ai.contracts.models import ModelReply, ModelRequest
from conductor_ai.contracts.session import Fence, FinishInput
from conductor_ai.contracts.status import Status
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.stores.sessions import CancelVerdict
from conductor_ai.testing.scripted import Listener
from tests.fixtures_servers import wait_until
from tests.gates import activity_worker, assert_agrees, ends_by_finish, workflow_worker
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool, Say

Around = Callable[[str], Awaitable[None]]
"""What happens around the write of a session's end, by its id."""

POINTS = ("at once", "model 1", "tool", "model 2", "finishing", "finished")
WAYS = ("api", "api", "temporal alone", "flag alone")


class Plan:
    """Cancels one session at one point, in one way; the session waits for it there, or does not."""

    def __init__(self, number: int) -> None:
        random_ = random.Random(number)
        self.point = POINTS[number % len(POINTS)]
        self.way = WAYS[number // len(POINTS) % len(WAYS)]
        self.waits = random_.random() < 0.5
        self.turns = random_.choice((0, 0, 1, 2, 5, 20))
        self.reached, self.done = asyncio.Event(), asyncio.Event()
        self.verdict: CancelVerdict | None = None

    async def at(self, point: str) -> None:
        """The session is at a point."""
        if point != self.point or self.reached.is_set():
            return
        self.reached.set()
        if self.waits:
            async with asyncio.timeout(20):
                await self.done.wait()

    async def cancel(self, r: Rig, session_id: str) -> None:
        """Wait for the point, then cancel."""
        await self.reached.wait()
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.way != "temporal alone":
            self.verdict = await r.sessions.request_cancel(ORG, session_id, None)
        if self.way == "temporal alone" or (self.way == "api" and self.verdict is CancelVerdict.ACCEPTED):
            await r.engine.cancel(session_id)
        self.done.set()


class Planned:
    """A model that asks for one tool, then answers, and stops where the plan of its session says."""

    name = "planned"

    def __init__(self, plans: dict[str, Plan]) -> None:
        self._plans = plans

    async def complete(self, request: ModelRequest, _listener: Listener, /) -> ModelReply:
        """One call, then the answer."""
        await self._plans[request.turns[0].text].at(f"model {request.step}")
        return calls(("web_fetch", {"text": request.turns[0].text})) if request.step == 1 else answer()

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(params=["with the answer", "by finish"])
def end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which activity writes the end."""
    if request.param == "by finish":
        ends_by_finish(monkeypatch)
    return str(request.param)


@pytest.mark.slow
async def test_cancel_races_the_end(temporal: Client, store_url: str, task_queue: str, end: str) -> None:
    """40 cancels at many points: row and Temporal agree every time, and an accepted cancel is never `completed`."""
    plans = {f"session {number}": Plan(number) for number in range(40)}
    by_id: dict[str, Plan] = {}

    async def at_tool(arguments: Say, _call: Call) -> ToolResult:
        await plans[arguments.text].at("tool")
        return ToolResult(ok=True, content="ok")

    tool = FakeTool("web_fetch", at_tool)
    async with rig(temporal, store_url, task_queue, provider=Planned(plans), tools=[tool]) as r:
        _hook_end(r, end, by_id)

        async def one(text: str, plan: Plan) -> str:
            session_id = await r.start(text)
            by_id[session_id] = plan
            canceller = asyncio.create_task(plan.cancel(r, session_id))
            await plan.at("at once")
            await r.ended(session_id, seconds=60)
            await asyncio.wait_for(canceller, 20)
            return session_id

        ids = await asyncio.gather(*(one(text, plan) for text, plan in plans.items()))
        for session_id, plan in zip(ids, plans.values(), strict=True):
            await assert_agrees(r, session_id)
            view = await r.view(session_id)
            if plan.verdict is CancelVerdict.ACCEPTED:
                assert view.status is Status.CANCELLED, vars(plan)
            elif plan.verdict is CancelVerdict.ENDED:
                assert view.status is Status.COMPLETED, vars(plan)
            ends = [kind for kind in await _event_types(r, session_id) if kind == "session.ended"]
            assert len(ends) == 1
    verdicts = {plan.verdict for plan in plans.values()}
    assert {CancelVerdict.ACCEPTED, CancelVerdict.ENDED} <= verdicts  # both sides of the race were met


def _around(r: Rig, end: str, before: Around, after: Around) -> None:
    """Have something happen before and after the write of each session's end."""
    journal, answered = r.parts.models._journal, r.parts.models._journal.answered
    ending, finish = r.parts.snapshot._ending, r.parts.snapshot._ending.finish

    async def hooked_answer(fence: Fence, *given: Any, **named: Any) -> Any:
        if named["reply"].calls:
            return await answered(fence, *given, **named)
        await before(fence.session_id)
        outcome = await answered(fence, *given, **named)
        await after(fence.session_id)
        return outcome

    async def hooked_finish(request: FinishInput, run_id: str) -> Any:
        await before(request.fence.session_id)
        outcome = await finish(request, run_id)
        await after(request.fence.session_id)
        return outcome

    if end == "with the answer":
        journal.answered = hooked_answer  # type: ignore[method-assign]
    else:
        ending.finish = hooked_finish  # type: ignore[method-assign]


def _hook_end(r: Rig, end: str, plans: dict[str, Plan]) -> None:
    _around(r, end, lambda found: plans[found].at("finishing"), lambda found: plans[found].at("finished"))


async def _event_types(r: Rig, session_id: str) -> list[str]:
    async with r.parts.database.connection() as connection:
        rows = await connection.fetch("SELECT type FROM conductor.events WHERE session_id = $1", session_id)
    return [row["type"] for row in rows]


@pytest.mark.parametrize("first", ["the end", "the cancel"])
async def test_cancel_and_end_in_one_activation(
    temporal: Client, store_url: str, task_queue: str, first: str, end: str
) -> None:
    """`completed` is written, then Temporal is asked to cancel, and the workflow learns of both at once: it completes.

    The cancel is thrown into the first await after the end; natural code closes CANCELED there.
    """
    written, go_on = asyncio.Event(), asyncio.Event()

    async def at_once(_session_id: str) -> None:
        return None

    async def later(_session_id: str) -> None:
        written.set()
        await go_on.wait()

    async with rig(temporal, store_url, task_queue, replies=[answer()], run=False) as r:
        _around(r, end, at_once, later)
        async with activity_worker(r):
            async with workflow_worker(r):
                session_id = await r.start()
                await asyncio.wait_for(written.wait(), 20)
            happenings: list[Callable[[], Awaitable[None]]] = [
                lambda: _let_go(r, session_id, go_on),
                lambda: r.engine.cancel(session_id),
            ]
            for happens in happenings if first == "the end" else reversed(happenings):
                await happens()
            async with workflow_worker(r):
                view = await r.ended(session_id)
                await assert_agrees(r, session_id)
    assert view.status is Status.COMPLETED


async def _let_go(r: Rig, session_id: str, go_on: asyncio.Event) -> None:
    """Let the activity return, and wait until Temporal has written that down."""
    handle = r.handle(session_id)
    before = await _completed(handle)
    go_on.set()

    async def returned() -> bool:
        return await _completed(handle) > before

    await wait_until(returned, "the completion of finish")


async def _completed(handle: Any) -> int:
    history = await handle.fetch_history()
    return sum(event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED for event in history.events)
