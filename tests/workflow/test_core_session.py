"""The session workflow where something goes wrong around it: nothing hangs, nothing leaks, nobody is asked in vain."""

from datetime import UTC, datetime, timedelta

from temporalio.client import Client

from activities.tools.base import Call
from conductor_ai.contracts.decisions import DecisionRequest
from conductor_ai.contracts.models import ModelReply, ModelRequest
from conductor_ai.contracts.session import SessionInput
from conductor_ai.contracts.status import ApprovalStatus, CallState, Status
from conductor_ai.contracts.tools import Facts, ToolResult
from conductor_ai.testing import ScriptedProvider
from conductor_ai.testing.scripted import Listener
from tests.rig import answer, calls, rig
from tests.tools import FakeTool, Say
from workflows import session as module
from workflows.pending import DECIDED_MAX, EARLY_MAX, Ledger, Waiting

SECRET = "hunter2"


class Leaky(ScriptedProvider):
    """Fails once with a text from outside, and then goes on."""

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """The next step."""
        if not self.requests:
            self.requests.append(request)
            raise ValueError(f"bad request: {SECRET}") from KeyError(SECRET)
        return await super().complete(request, listener)


async def test_what_others_throw_is_not_in_the_history(temporal: Client, store_url: str, task_queue: str) -> None:
    """A provider and a tool throw text from outside: it is in no event of the history, nor in what the model is told."""

    async def fails(_arguments: Say, _call: Call) -> ToolResult:
        raise ValueError(f"row: {SECRET}") from KeyError(SECRET)

    provider = Leaky([calls(("web_fetch", {"text": "x"})), answer()])
    tool = FakeTool("web_fetch", fails)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start()
        view = await r.ended(session_id, seconds=40)
        history = (await r.handle(session_id).fetch_history()).to_json()
    assert (view.status, [run.attempt for run in tool.runs]) == (Status.COMPLETED, [0, 1, 2, 3])
    assert SECRET not in history
    assert SECRET not in view.model_dump_json()
    assert view.steps[0].actions[0].status is CallState.FAILED


async def test_an_approved_call_that_nobody_can_run_is_closed(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """Approved by a signal, then no worker has the tool: the call fails, the inbox is empty, and who approved is kept."""
    tool = FakeTool("sql_query", facts=Facts(writes=True))
    async with rig(
        temporal, store_url, task_queue, replies=[calls(("sql_query", {"text": "x"})), answer()], tools=[tool]
    ) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        del r.parts.registry._tools["sql_query"]
        await r.signal(approval, "approve")
        view = await r.ended(session_id)
        stored = await r.snapshots.approval("org_test", approval.id)
    assert stored is not None
    assert (view.status, view.steps[0].actions[0].status) == (Status.COMPLETED, CallState.FAILED)
    assert (stored.status, tool.runs) == (ApprovalStatus.APPROVED, [])
    assert [(d.by, d.counted) for d in stored.decisions] == [("temporal-access", True)]


def test_what_is_carried_over_fits() -> None:
    """A hundred long comments beside a hundred early decisions: continue-as-new still fits Temporal's limit of 2 MB."""
    now = datetime.now(UTC)
    ledger = Ledger()
    for number in range(DECIDED_MAX + EARLY_MAX):
        call_id = f"call_{number:032}"
        if number < DECIDED_MAX:
            ledger.register(Waiting(call_id, "sql_query", "a" * 64, now + timedelta(hours=1)))
        request = DecisionRequest(
            call_id=call_id,
            decision="approve",
            arguments_sha256="a" * 64,
            via="api",
            by="x",
            comment="\U0001f600" * 4000,
        )
        ledger.decide(request, now)
        ledger.expire((call_id, 1))
    given = SessionInput(session_id="sess", org_id="org", model="demo", tools=(), max_steps=1)
    made = module.Session(given)
    made._ledger = ledger
    carried = made._carry()
    assert (len(carried.decisions), len(carried.early)) == (DECIDED_MAX, EARLY_MAX)
    assert len(carried.model_dump_json().encode()) < 1_900_000
