"""Approvals taken further: edited, answered, remembered, asked again, denied again, expired as the policy says."""

from typing import Any

import pytest
from temporalio.client import Client

from activities.tools.base import Arguments, Call
from conductor_ai.contracts.decisions import VerdictKind
from conductor_ai.contracts.grants import GrantView
from conductor_ai.contracts.policy import OnExpiry
from conductor_ai.contracts.status import ApprovalStatus, CallState, Phase, Status
from conductor_ai.contracts.tools import Consequence, ToolError, ToolResult
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.errors import Code
from conductor_ai.stores.grants import Grants
from tests.fixtures_servers import wait_until
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool, Say

QUERY = calls(("sql_query", {"text": "select 1"}))


class Changes:
    """A tool whose effect has changed the first times that it is run."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def __call__(self, arguments: Say, _call: Call) -> ToolResult:
        if self.left == 0:
            return ToolResult(ok=True, content=f"changed 13 rows: {arguments.text}")
        self.left -= 1
        why = "It would now change 13 rows, but 12 were shown. It was rolled back."
        return ToolResult(ok=False, content=why, error=ToolError(code="rows_changed", message=why), ask_again=True)


async def the_approval(r: Rig, session_id: str, *, round_: int) -> ApprovalView:
    """Wait until the call is asked for the n-th time."""

    async def asked() -> bool:
        pending = (await r.view(session_id)).pending_approvals
        return bool(pending) and pending[0].round == round_

    await wait_until(asked, f"the approval of round {round_}", 20)
    return (await r.view(session_id)).pending_approvals[0]


async def asked_in_step(r: Rig, session_id: str, step: int) -> ApprovalView:
    """Wait until the call of that step, and no other, is asked."""

    async def asked() -> bool:
        return [a.step for a in (await r.view(session_id)).pending_approvals] == [step]

    await wait_until(asked, f"the call of step {step} to be asked", 20)
    return (await r.view(session_id)).pending_approvals[0]


async def granted(r: Rig, approval: ApprovalView) -> GrantView:
    """The live grant that came from an approval."""
    found = await Grants(r.parts.database).list(ORG, live=True, before=None, limit=100)
    return next(grant for grant in found if grant.approval_id == approval.id)


async def told(r: Rig, session_id: str) -> str:
    """What the model was told in the last request."""
    provider: Any = r.provider
    turn = provider.requests[-1].turns[-1]
    assert turn.role == "tool"
    return str(turn.text)


async def test_another_effect_is_asked_again(temporal: Client, store_url: str, task_queue: str) -> None:
    """A write that would touch more rows than approved is not run: people are asked again, and the model is told so."""
    tool = FakeTool("sql_query", Changes(1))
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        first = await the_approval(r, session_id, round_=1)
        assert (await r.decide(first, "approve")).kind is VerdictKind.ACCEPTED
        second = await the_approval(r, session_id, round_=2)
        # The same digest, but another question: the first decision says nothing about it.
        assert second.arguments_sha256 == first.arguments_sha256
        assert second.id != first.id
        assert (await r.decide(first, "approve")).kind is VerdictKind.SAME_AGAIN
        assert len(tool.runs) == 1
        assert (await r.decide(second, "approve")).kind is VerdictKind.ACCEPTED
        view = await r.ended(session_id)
        stored = await r.snapshots.approval(ORG, first.id)
        heard = await told(r, session_id)
    assert [call.attempt for call in tool.runs] == [1, 1]
    assert view.steps[0].actions[0].status is CallState.SUCCEEDED
    assert stored is not None
    assert (stored.status, stored.execution.state) == (ApprovalStatus.APPROVED, "not_started")
    assert "people were asked again: It would now change 13 rows" in heard
    assert heard.endswith("changed 13 rows: select 1")


async def test_asked_again_and_then_denied(temporal: Client, store_url: str, task_queue: str) -> None:
    """The second time a person says no: the call is denied, whatever was approved before."""
    tool = FakeTool("sql_query", Changes(1))
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        await r.decide(await the_approval(r, session_id, round_=1), "approve")
        await r.decide(await the_approval(r, session_id, round_=2), "deny", comment="too many")
        view = await r.ended(session_id)
    assert view.steps[0].actions[0].status is CallState.DENIED
    assert len(tool.runs) == 1


async def test_an_edit_is_asked_again_and_then_runs(temporal: Client, store_url: str, task_queue: str) -> None:
    """Other arguments: a new approval shows what they would do, and exactly they run. The model is told of the change."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        first = await the_approval(r, session_id, round_=1)
        await r.decide(first, "edit", arguments={"text": "select 2"})
        second = await the_approval(r, session_id, round_=2)
        assert second.arguments == {"text": "select 2"}
        assert second.arguments_sha256 != first.arguments_sha256
        assert tool.runs == []
        await r.decide(second, "approve")
        view = await r.ended(session_id)
        stored = await r.snapshots.approval(ORG, first.id)
        heard = await told(r, session_id)
    assert stored is not None
    assert (stored.status, stored.arguments) == (ApprovalStatus.EDITED, {"text": "select 1"})
    assert view.steps[0].actions[0].arguments == {"text": "select 2"}
    assert [call.arguments_sha256 for call in tool.runs] == [second.arguments_sha256]
    assert 'They now are: {"text": "select 2"}' in heard
    assert heard.endswith("echo: select 2")


async def test_an_edit_that_does_not_fit_runs_nothing(temporal: Client, store_url: str, task_queue: str) -> None:
    """Arguments that the tool does not take: the call is invalid, the model is told, nobody is asked again."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        await r.decide(await the_approval(r, session_id, round_=1), "edit", arguments={"nonsense": 1})
        view = await r.ended(session_id)
    assert view.steps[0].actions[0].status is CallState.INVALID
    assert tool.runs == []
    assert "nonsense" in (view.steps[0].observation or "")


async def test_an_edit_past_the_api_changes_nothing(temporal: Client, store_url: str, task_queue: str) -> None:
    """A forged edit has no stored text: the call is asked again as it was, and nothing has run."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        first = await the_approval(r, session_id, round_=1)
        body = {"call_id": first.call_id, "decision": "edit", "arguments_sha256": first.arguments_sha256}
        await r.handle(session_id).signal("decide", body)  # without a text: no decision at all
        await r.handle(session_id).signal("decide", {**body, "content_sha256": "0" * 64})
        second = await the_approval(r, session_id, round_=2)
        assert second.arguments == first.arguments
        assert tool.runs == []
        await r.decide(second, "deny")
        await r.ended(session_id)
        stored = await r.snapshots.approval(ORG, first.id)
    assert stored is not None
    assert stored.status is ApprovalStatus.CANCELLED


async def test_an_answer_takes_the_tool_s_place(temporal: Client, store_url: str, task_queue: str) -> None:
    """A person gives the result: the tool is not run, and the model knows whose answer it is. History has no word of it."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        await r.decide(await the_approval(r, session_id, round_=1), "answer", answer="There are 42 customers.")
        view = await r.ended(session_id)
        heard = await told(r, session_id)
        history = (await r.handle(session_id).fetch_history()).to_json()
    [action] = view.steps[0].actions
    assert (action.status, tool.runs) == (CallState.ANSWERED, [])
    assert heard.startswith("A person answered this call in the tool's place")
    assert heard.endswith("There are 42 customers.")
    assert "42 customers" not in history


@pytest.mark.parametrize("forged", [False, True], ids=["stored", "forged"])
async def test_an_edit_needs_its_text(temporal: Client, store_url: str, task_queue: str, forged: bool) -> None:
    """An answer whose text nobody stored is no answer: the call is denied instead of being settled with nothing."""
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[FakeTool("sql_query")]) as r:
        session_id = await r.start()
        approval = await the_approval(r, session_id, round_=1)
        if forged:
            body = {"call_id": approval.call_id, "decision": "answer", "arguments_sha256": approval.arguments_sha256}
            await r.handle(session_id).signal("decide", {**body, "content_sha256": "0" * 64})
        else:
            await r.decide(approval, "answer", answer="yes")
        view = await r.ended(session_id)
    assert view.steps[0].actions[0].status is (CallState.DENIED if forged else CallState.ANSWERED)


SAME_TWICE = [QUERY, QUERY, answer()]


async def test_a_grant_approves_the_same_call(temporal: Client, store_url: str, task_queue: str) -> None:
    """Remembered: the same call runs without asking, and its record says by which grant, and who gave it."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=SAME_TWICE, tools=[tool]) as r:
        session_id = await r.start()
        first = await the_approval(r, session_id, round_=1)
        await r.decide(first, "approve", by="ann (key_1)", remember={"match": "exact", "scope": "session"})
        view = await r.ended(session_id)
        grant = await granted(r, first)
        second = await r.snapshots.approval(ORG, view.steps[1].actions[0].approval_id or "")
    assert len(tool.runs) == 2
    assert second is not None
    assert [(d.by, d.via, d.verified, d.counted) for d in second.decisions] == [("ann (key_1)", "grant", True, True)]
    assert (grant.granted_by, grant.approval_id, grant.session_id) == ("ann (key_1)", first.id, session_id)


async def test_a_grant_is_used_up(temporal: Client, store_url: str, task_queue: str) -> None:
    """One use: the second call like it runs, the third is asked."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, *SAME_TWICE], tools=[tool]) as r:
        session_id = await r.start()
        await r.decide(await the_approval(r, session_id, round_=1), "approve", remember={"uses": 1})
        third = await asked_in_step(r, session_id, 3)
        assert len(tool.runs) == 2
        await r.decide(third, "deny")
        await r.ended(session_id)


class Where(Say):
    """Two arguments."""

    table: str = ""


class Pair(FakeTool):
    """A tool that takes two arguments."""

    @property
    def arguments(self) -> type[Arguments]:
        return Where


async def test_a_template_leaves_what_it_names_free(temporal: Client, store_url: str, task_queue: str) -> None:
    """Another text on the same table runs by the grant; the same text on another table is asked."""
    tool = Pair("sql_query")
    proposed = [("a", "orders"), ("b", "orders"), ("a", "customers")]
    replies = [calls(("sql_query", {"text": text, "table": table})) for text, table in proposed]
    async with rig(temporal, store_url, task_queue, replies=[*replies, answer()], tools=[tool]) as r:
        session_id = await r.start()
        wanted = {"match": "template", "free": ["text"]}
        await r.decide(await the_approval(r, session_id, round_=1), "approve", remember=wanted)
        third = await asked_in_step(r, session_id, 3)
        assert third.arguments == {"text": "a", "table": "customers"}
        assert len(tool.runs) == 2
        await r.decide(third, "deny")
        await r.ended(session_id)


async def test_a_revoked_grant_approves_nothing(temporal: Client, store_url: str, task_queue: str) -> None:
    """Revoked between two calls: the second is asked."""
    async with rig(temporal, store_url, task_queue, tools=[FakeTool("sql_query")], replies=[QUERY, answer()]) as r:
        session_id = await r.start()
        first = await the_approval(r, session_id, round_=1)
        await r.decide(first, "approve", remember={"scope": "org"})
        await r.ended(session_id)
        grants, grant = Grants(r.parts.database), await granted(r, first)
        assert await grants.revoke("org_other", grant.id, "eve") is None
        revoked = await grants.revoke(ORG, grant.id, "ann")
        assert revoked is not None
        assert revoked.revoked_by == "ann"
        provider: Any = r.provider
        provider.add(QUERY, answer())
        another = await r.start()
        await r.decide(await the_approval(r, another, round_=1), "deny")
        await r.ended(another)
        assert grant.id not in [each.id for each in await grants.list(ORG, live=True, before=None, limit=100)]


@pytest.mark.parametrize("why", ["asked about everything", "effect unknown"])
async def test_where_a_grant_does_not_count(temporal: Client, store_url: str, task_queue: str, why: str) -> None:
    """A session that wants to be asked about every call, and a call whose effect could not be looked up, are for a person."""

    class Broken(FakeTool):
        """Cannot tell the second time what it would do."""

        async def prepare(self, arguments: Say, call: Call, /) -> Consequence:
            if self.prepared and why == "effect unknown":
                raise RuntimeError("no idea")
            return await super().prepare(arguments, call)

    tool = Broken("sql_query")
    async with rig(temporal, store_url, task_queue, replies=SAME_TWICE, tools=[tool]) as r:
        session_id = await r.start(ask_every_call=why == "asked about everything")
        await r.decide(await the_approval(r, session_id, round_=1), "approve", remember={})
        second = await asked_in_step(r, session_id, 2)
        assert len(tool.runs) == 1
        await r.decide(second, "deny")
        await r.ended(session_id)


async def test_denied_again_and_again(temporal: Client, store_url: str, task_queue: str) -> None:
    """The same call again is denied at once; the third time the session pauses for somebody to look."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, QUERY, QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        await r.decide(await the_approval(r, session_id, round_=1), "deny")

        async def paused() -> bool:
            return (await r.view(session_id)).phase is Phase.PAUSED

        await wait_until(paused, "the pause", 20)
        view = await r.view(session_id)
        assert view.paused is not None
        assert view.paused.kind == "denials"
        assert [step.actions[0].status for step in view.steps] == [CallState.DENIED] * 3
        assert [step.actions[0].approval_id is None for step in view.steps] == [False, True, True]
        await r.handle(session_id).signal("resume", {})
        view = await r.ended(session_id)
    assert view.status is Status.COMPLETED
    assert tool.runs == []


@pytest.mark.parametrize("what", OnExpiry)
async def test_what_an_expiry_means(temporal: Client, store_url: str, task_queue: str, what: OnExpiry) -> None:
    """Told and gone on; counted as a denial, so that the same call is not asked again; or the session fails."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start(approval_ttl_seconds=1, on_expiry=what)
        view = await r.ended(session_id)
    states = [step.actions[0].status for step in view.steps if step.actions]
    match what:
        case OnExpiry.EXPIRE:
            assert (view.status, states) == (Status.COMPLETED, [CallState.EXPIRED, CallState.EXPIRED])
        case OnExpiry.DENY:
            assert (view.status, states) == (Status.COMPLETED, [CallState.EXPIRED, CallState.DENIED])
        case OnExpiry.FAIL:
            assert (view.status, states) == (Status.FAILED, [CallState.EXPIRED])
            assert view.error is not None
            assert view.error.code == Code.APPROVAL_EXPIRED
    assert tool.runs == []


async def test_a_session_that_wants_to_be_asked(temporal: Client, store_url: str, task_queue: str) -> None:
    """`ask_every_call`: also a call that the policy allows waits for a person."""
    tool = FakeTool("web_fetch")
    replies = [calls(("web_fetch", {"text": "x"})), answer()]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool]) as r:
        session_id = await r.start(ask_every_call=True)
        approval = await the_approval(r, session_id, round_=1)
        assert tool.runs == []
        await r.decide(approval, "approve")
        await r.ended(session_id)
    assert len(tool.runs) == 1
