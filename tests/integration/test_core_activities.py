"""The activities at their edges: what a tool, a provider or the store throws, and what of it leaves the worker."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities import deltas
from activities.deltas import DeltaListener
from activities.providers.base import Listener
from activities.tools.base import Call, NotExecuted
from activities.tools.registry import Registry
from conductor_ai.contracts.models import ModelReply, ModelRequest, ProposedCall, Usage
from conductor_ai.contracts.session import (
    CallExpired,
    Fence,
    FinishInput,
    ModelInput,
    PrepareInput,
    RecordInput,
    ToolInput,
)
from conductor_ai.contracts.status import StopReason
from conductor_ai.contracts.tools import Consequence, ToolResult
from conductor_ai.errors import Code, Unavailable
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.transcript import StoredCall
from conductor_ai.testing import ScriptedProvider
from tests.places import WRITES, Place, as_activity, call, fence
from tests.rig import calls, rig
from tests.tools import FakeTool, Say

SECRET = "hunter2"


class Boom(Exception):
    """Something that nobody expected, with text from outside in it."""


def boom() -> Boom:
    """One, with a cause that says more."""
    error = Boom(f"bad password {SECRET}")
    error.__cause__ = ValueError(f"row ({SECRET})")
    return error


class Broken(FakeTool):
    """A tool with a fault in everything that is asked beside the run."""

    async def prepare(self, _arguments: Say, _call: Call, /) -> Consequence:
        raise boom()

    async def outcome(self, _call: Call, /) -> ToolResult | NotExecuted | None:
        raise boom()


def everything(error: BaseException) -> str:
    """All text that Temporal would write of an error: its own and that of its causes."""
    found: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        found.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    return "\n".join(found)


def preparing(session_id: str, stored: StoredCall) -> PrepareInput:
    """What the workflow sends before it asks people."""
    return PrepareInput.model_validate(
        {
            "fence": fence(session_id),
            "call_id": stored.call_id,
            "arguments_sha256": stored.args_sha,
            "expires_at": "2100-01-01T00:00:00Z",
            "rule": "a rule",
        }
    )


def running(session_id: str, stored: StoredCall) -> ToolInput:
    """What the workflow sends for a tool call."""
    return ToolInput(
        fence=fence(session_id), call_id=stored.call_id, tool=stored.tool, arguments_sha256=stored.args_sha
    )


def asking(session_id: str) -> ModelInput:
    """What the workflow sends for the first model call."""
    return ModelInput(
        fence=Fence(session_id=session_id, next_call_no=1), call_no=1, step=1, model="demo", max_attempts=3
    )


async def test_a_tool_whose_preview_is_broken_is_asked_about_all_the_same(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """A fault in `prepare` would be retried for ever, with nobody asked: people see that the effect is not known."""
    async with rig(temporal, store_url, task_queue, tools=[Broken("sql_query")], run=False) as r:
        place, stored = Place(r.parts.database), call("sql_query", WRITES)
        session_id = await place.session()
        await place.answered(session_id, "run", 1, stored)
        prepared = await as_activity(r.parts.tools.prepare_call, preparing(session_id, stored), run_id="run")
        [approval] = (await place.view(session_id)).pending_approvals
    assert prepared.state == "pending"
    assert (approval.risk, SECRET in approval.model_dump_json()) == ("high", False)


async def test_the_end_does_not_wait_for_a_tool_that_is_broken(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """A fault in `outcome` would repeat `finish` for ever: the end is told, and the call stays unknown."""
    async with rig(temporal, store_url, task_queue, tools=[Broken()], run=False) as r:
        place, stored = Place(r.parts.database), call(facts=WRITES)
        session_id = await place.session()
        await place.answered(session_id, "run", 1, stored)
        await place.calls.claim(fence(session_id), "run", 1, stored.call_id, decision=None, must_be_approved=False)
        request = FinishInput(fence=fence(session_id), stop_reason=StopReason.DEADLINE)
        outcome = await as_activity(r.parts.snapshot.finish, request, run_id="run")
        state = await place.state_of(stored)
    assert (outcome.status, state) == ("failed", "outcome_unknown")


async def test_without_a_session_nothing_is_repeated(temporal: Client, store_url: str, task_queue: str) -> None:
    """The row is gone (a restored backup, a workflow started by hand): an endless retry would never find it."""
    gone = fence("sess_gone", 1)
    async with rig(temporal, store_url, task_queue, run=False) as r:
        for function, request in (
            (r.parts.models.call_model, asking("sess_gone")),
            (r.parts.tools.prepare_call, preparing("sess_gone", call())),
            (r.parts.tools.run_tool, running("sess_gone", call())),
            (r.parts.snapshot.record, RecordInput(fence=gone, clock=1, changes=())),
            (r.parts.snapshot.finish, FinishInput(fence=gone, stop_reason=StopReason.ERROR)),
        ):
            run: Any = function
            with pytest.raises(ApplicationError) as failed:
                await as_activity(run, request, run_id="run")
            assert (failed.value.type, failed.value.non_retryable) == (Code.NOT_FOUND, True)


async def test_a_fault_of_a_provider_is_billed_and_told_without_its_text(
    temporal: Client, store_url: str, task_queue: str
) -> None:
    """A provider fails in a way nobody expected: usage is stored, and Temporal's history gets a sentence of ours."""

    class Faulty(ScriptedProvider):
        async def complete(self, _request: ModelRequest, listener: Listener, /) -> ModelReply:
            listener.usage(Usage(input=70, output=3))
            raise boom()

    async with rig(temporal, store_url, task_queue, provider=Faulty(), run=False) as r:
        place = Place(r.parts.database)
        session_id = await place.session(tools=())
        with pytest.raises(ApplicationError) as failed:
            await as_activity(r.parts.models.call_model, asking(session_id), run_id="run")
        view = await place.view(session_id)
    assert (view.input_tokens, view.output_tokens) == (70, 3)
    assert SECRET not in everything(failed.value)
    assert (failed.value.type, failed.value.non_retryable) == (Code.INTERNAL, False)


async def test_a_fault_of_a_tool_is_told_without_its_text(temporal: Client, store_url: str, task_queue: str) -> None:
    """What a tool throws may hold secrets and content: neither its text nor its causes reach Temporal's history."""

    async def fails(_arguments: Say, _call: Call) -> ToolResult:
        raise boom()

    async with rig(temporal, store_url, task_queue, tools=[FakeTool("web_fetch", fails)], run=False) as r:
        place, stored = Place(r.parts.database), call()
        session_id = await place.session()
        await place.answered(session_id, "run", 1, stored)
        with pytest.raises(ApplicationError) as failed:
            await as_activity(r.parts.tools.run_tool, running(session_id, stored), run_id="run")
    assert SECRET not in everything(failed.value)
    assert "Boom" in failed.value.message


async def test_the_store_is_away_for_a_moment(temporal: Client, store_url: str, task_queue: str) -> None:
    """The claim of an approved call meets a restart of Postgres: the attempt waits a little instead of being used up."""
    tool = FakeTool()
    async with rig(temporal, store_url, task_queue, tools=[tool], run=False) as r:
        place, stored = Place(r.parts.database), call(facts=WRITES)
        session_id = await place.session()
        await place.answered(session_id, "run", 1, stored)
        claim, heard = r.parts.tools._calls.claim, []

        async def unheard(*args: Any, **more: Any) -> Any:
            heard.append(await claim(*args, **more))
            if len(heard) == 1:
                raise Unavailable("The answer to the commit was lost.")
            return heard[-1]

        r.parts.tools._calls.claim = unheard  # type: ignore[method-assign]
        outcome = await as_activity(r.parts.tools.run_tool, running(session_id, stored), run_id="run")
    assert (outcome.state, len(tool.runs), len(heard)) == ("succeeded", 1, 2)


async def test_a_flood_of_calls_is_cut(temporal: Client, store_url: str, task_queue: str) -> None:
    """A reply with 1,500 calls would not fit Temporal's payload: the first are run, the others are told to come later."""
    flood = calls(*(("web_fetch", {"text": "\x01" * 3_000}) for _ in range(1_500)))
    async with rig(temporal, store_url, task_queue, replies=[flood], tools=[FakeTool()], run=False) as r:
        place = Place(r.parts.database)
        session_id = await place.session(tools=("web_fetch",))
        outcome = await as_activity(r.parts.models.call_model, asking(session_id), run_id="run")
        [step] = (await place.view(session_id)).steps
    assert len(outcome.model_dump_json()) < 1_500_000
    assert len(step.actions) == 1_500
    assert {str(action.status) for action in step.actions} == {"ready", "invalid"}
    assert step.actions[-1].error is not None
    assert step.actions[-1].error["code"] == "too_many_calls"


@pytest.mark.parametrize("number", [1e16, -1e16, 1e300])
def test_numbers_that_change_on_their_way_through_the_store_are_refused(number: float) -> None:
    """1e16 comes back from jsonb as an integer beyond 2^53, whose digest cannot be made: no such call may be stored."""
    tool = FakeTool()

    class Anything(Say):
        n: float = 0

    tool.__class__ = type("Takes", (FakeTool,), {"arguments": property(lambda _: Anything)})
    registry = Registry([tool])
    checked = registry.check(ProposedCall(provider_id="t", tool="web_fetch", arguments={"n": number}), ("web_fetch",))
    assert checked.refused is not None
    assert checked.refused.error is not None
    assert checked.refused.error.code == "invalid_arguments"


async def test_a_digest_that_cannot_be_made_is_final(temporal: Client, store_url: str, task_queue: str) -> None:
    """A stored call whose arguments have no digest any more is refused for good; asking for it is not repeated."""
    async with rig(temporal, store_url, task_queue, tools=[FakeTool()], run=False) as r:
        place, stored = Place(r.parts.database), call()
        session_id = await place.session()
        await place.answered(session_id, "run", 1, stored)
        async with place.database.connection() as connection:
            await connection.execute(
                "UPDATE conductor.tool_calls SET arguments = '{\"text\": 10000000000000000}' WHERE call_id = $1",
                stored.call_id,
            )
        with pytest.raises(ApplicationError) as failed:
            await as_activity(r.parts.tools.prepare_call, preparing(session_id, stored), run_id="run")
    assert (failed.value.type, failed.value.non_retryable) == (Code.DIGEST_MISMATCH, True)


class Slow(Hot):
    """A Redis that takes every piece."""

    def __init__(self) -> None:
        super().__init__(None)
        self.taken: list[str] = []

    async def delta(self, _org: str, _session: str, _call: int, _attempt: int, text: str) -> None:
        self.taken.append(text)


async def test_the_last_piece_of_a_reply_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing sends what is left at once: an answer that is paid for does not wait for the rhythm of the deltas."""
    monkeypatch.setattr(deltas, "BATCH_SECONDS", 3600)
    hot = Slow()
    listener = DeltaListener(hot, "org", "sess", 1, 1)
    listener.delta("a")
    async with asyncio.timeout(5):
        while not hot.taken:
            await asyncio.sleep(0)
    listener.delta("b")
    async with asyncio.timeout(5):
        await listener.close()
    assert hot.taken == ["a", "b"]


async def test_changes_of_a_missing_call_are_no_error(temporal: Client, store_url: str, task_queue: str) -> None:
    """A change about a call that is not there changes nothing and is not repeated for ever."""
    async with rig(temporal, store_url, task_queue, run=False) as r:
        place = Place(r.parts.database)
        session_id = await place.session()
        change = CallExpired.model_validate({"call_id": "call_none", "at": "2026-01-01T00:00:00Z"})
        request = RecordInput(fence=fence(session_id, 1), clock=1, changes=(change,))
        assert (await as_activity(r.parts.snapshot.record, request, run_id="run")).applied
