"""The inbox and its decisions: what was seen is what is decided, by whom the key says, once."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from conductor_ai.contracts.session import CallExpired, Fence
from conductor_ai.contracts.status import StopReason
from conductor_ai.names import new_id
from conductor_ai.stores.access import Role
from conductor_ai.stores.call_changes import Changes
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine
from tests.fixtures_api import Api, StandIn, is_problem, serving
from tests.fixtures_servers import wait_until


async def test_inbox(api: Api) -> None:
    """Calls of all sessions that wait, newest first, page by page, each with all that a person needs to decide."""
    made = [await api.hand.ask(await api.start()) for _ in range(3)]
    first = (await api.get("/v1/approvals?status=pending&limit=2")).json()
    assert [item["id"] for item in first["data"]] == [made[2]["id"], made[1]["id"]]
    second = (await api.get("/v1/approvals", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in second["data"]] == [made[0]["id"]]
    assert (second["has_more"], second["next_cursor"]) == (False, None)
    shown = (await api.get(f"/v1/approvals/{made[0]['id']}")).json()
    assert shown["arguments"] == {"query": "SELECT 1"}
    assert shown["arguments_sha256"] == made[0]["arguments_sha256"]
    assert (shown["tool"], shown["status"], shown["rule"]) == ("sql_query", "pending", "a rule")
    assert shown["allowed_decisions"] == ["approve", "deny", "edit", "answer"]
    assert shown["execution"] == {"state": "not_started"}
    assert shown["thought"] == "I want to look."
    await api.decide(made[0], "deny")
    assert [item["id"] for item in (await api.get("/v1/approvals?status=denied")).json()["data"]] == [made[0]["id"]]
    of_one = (await api.get("/v1/approvals", params={"session_id": shown["session_id"]})).json()["data"]
    assert [item["id"] for item in of_one] == [made[0]["id"]]


async def test_approve(api: Api) -> None:
    """The answer shows the caller's own write; who decided is told by the key; the workflow has taken it."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    answer = await api.decide(approval, comment="Looks right.", role=Role.APPROVER)
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "approved"
    [decision] = body["decisions"]
    assert decision["by"].startswith(f"approver of {api.org[:8]} (key_")
    assert (decision["decision"], decision["comment"], decision["via"]) == ("approve", "Looks right.", "api")
    assert (decision["verified"], decision["counted"]) == (True, True)
    handle = api.deps.engine.client.get_workflow_handle(session_id)
    assert await handle.query(StandIn.decided, approval["call_id"]) == "approve"
    assert (await api.get(f"/v1/agents/{session_id}")).json()["pending_approvals"] == []


async def test_same_again_and_contrary(api: Api) -> None:
    """The same decision is 200 again, whoever makes it; a contrary one is 409 with who and when, and changes nothing."""
    approval = await api.hand.ask(await api.start())
    first = await api.decide(approval, "deny", role=Role.APPROVER)
    for role in (Role.APPROVER, Role.ADMIN):
        again = await api.decide(approval, "deny", role=role)
        assert (again.status_code, again.json()) == (200, first.json())
    body = is_problem(await api.decide(approval, "approve"), 409, "already_decided")
    [counted] = first.json()["decisions"]
    assert body["decided"] == {name: counted[name] for name in ("by", "decision", "at")}
    assert counted["by"] in body["detail"]
    assert (await api.get(f"/v1/approvals/{approval['id']}")).json() == first.json()


async def test_many_at_once(api: Api) -> None:
    """Contrary decisions at the same moment: one kind wins, everybody is told the same."""
    approval = await api.hand.ask(await api.start())
    answers = await asyncio.gather(
        *(api.decide(approval, kind, role=role) for kind in ("approve", "deny") for role in (Role.APPROVER, Role.ADMIN))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 200, 409, 409]
    final = (await api.get(f"/v1/approvals/{approval['id']}")).json()
    assert [item["counted"] for item in final["decisions"]].count(True) == 1
    won = {answer.json()["status"] for answer in answers if answer.status_code == 200}
    assert won == {final["status"]}


async def test_digest(api: Api) -> None:
    """Who saw other arguments decides nothing, before or after."""
    approval = await api.hand.ask(await api.start())
    is_problem(await api.decide({**approval, "arguments_sha256": "0" * 64}), 412, "digest_mismatch")
    assert (await api.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "pending"
    await api.decide(approval)
    is_problem(await api.decide({**approval, "arguments_sha256": "0" * 64}), 412, "digest_mismatch")


@pytest.mark.parametrize("recorded", [False, True])
async def test_late(api: Api, recorded: bool) -> None:
    """A decision after the expiry is told so: by the workflow, and by the row once the expiry is recorded."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id, seconds=0.01)
    if recorded:
        await Changes(api.hand.journal).record(
            Fence(session_id=session_id, next_call_no=2),
            await api.deps.engine.current_run(session_id) or "",
            1,
            (CallExpired(call_id=approval["call_id"], at=datetime.now(UTC)),),
        )
    is_problem(await api.decide(approval), 409, "approval_expired")
    shown = (await api.get(f"/v1/approvals/{approval['id']}")).json()
    assert shown["status"] == ("expired" if recorded else "pending")


async def test_session_ended_meanwhile(api: Api) -> None:
    """The approvals of a session that has ended are closed."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    await api.hand.finish(session_id, StopReason.CANCELLED)
    is_problem(await api.decide(approval), 409, "approval_closed")


async def test_a_call_that_the_workflow_does_not_know_yet(api: Api) -> None:
    """The row shows it, but the workflow was set back to before it: on its way, and counted when the call comes again."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id, registered=False)
    answer = await api.decide(approval)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    handle = api.deps.engine.client.get_workflow_handle(session_id)
    await handle.signal("put", args=[approval["call_id"], approval["arguments_sha256"], 600])

    async def decided() -> bool:
        return await handle.query(StandIn.decided, approval["call_id"]) == "approve"

    await wait_until(decided, "the early decision to count")


@pytest.mark.parametrize(
    ("role", "allowed"), [(Role.VIEWER, False), (Role.OPERATOR, False), (Role.APPROVER, True), (Role.ADMIN, True)]
)
async def test_who_may_decide(api: Api, role: Role, allowed: bool) -> None:
    """Approvers and admins."""
    approval = await api.hand.ask(await api.start())
    answer = await api.decide(approval, role=role)
    if allowed:
        assert answer.status_code == 200
    else:
        is_problem(answer, 403, "forbidden")
        assert (await api.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "pending"


async def test_tenancy(api: Api) -> None:
    """Another organisation's approval is not found: not read, not listed, not decided."""
    approval = await api.hand.ask(await api.start())
    other = await api.other()
    for answer in (
        await other.get(f"/v1/approvals/{approval['id']}"),
        await other.decide(approval),
        await other.get(f"/v1/approvals/{new_id('appr')}"),
        await other.decide({**approval, "id": "appr_%00"}),
    ):
        is_problem(answer, 404, "not_found")
    assert (await other.get("/v1/approvals")).json()["data"] == []
    session_id = (await api.get(f"/v1/approvals/{approval['id']}")).json()["session_id"]
    assert (await other.get("/v1/approvals", params={"session_id": session_id})).json()["data"] == []


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"decision": "edit"}, "invalid_request", ""),
        ({"decision": "answer"}, "invalid_request", ""),
        ({"decision": "deny", "arguments": {}}, "invalid_request", ""),
        ({"decision": "edit", "arguments": {"n": 2**60}}, "invalid_request", "/arguments"),
        ({"decision": "deny", "remember": {}}, "invalid_request", ""),
        ({"decision": "approve", "remember": {"match": "template"}}, "invalid_request", "/remember"),
        ({"decision": "approve", "remember": {"uses": 0}}, "invalid_request", "/remember/uses"),
        ({"decision": "maybe"}, "invalid_request", "/decision"),
        ({"decision": "approve", "by": "somebody else"}, "invalid_request", "/by"),
        ({"decision": "approve", "comment": "x" * 4001}, "invalid_request", "/comment"),
        ({"decision": "approve", "arguments_sha256": None}, "invalid_request", "/arguments_sha256"),
    ],
)
async def test_odd_decisions(api: Api, body: dict[str, Any], code: str, pointer: str) -> None:
    """What is no decision is refused; nobody can say in the body who they are."""
    approval = await api.hand.ask(await api.start())
    given = {"arguments_sha256": approval["arguments_sha256"], **body}
    answer = await api.post(f"/v1/approvals/{approval['id']}/decision", given)
    assert pointer in [item["pointer"] for item in is_problem(answer, 422, code)["errors"]]
    missing = await api.post(f"/v1/approvals/{approval['id']}/decision", {"decision": "approve"})
    is_problem(missing, 422, "invalid_request")


async def test_no_worker(temporal: Client, database: Database, hot: Hot, api: Api) -> None:
    """Nobody takes it: 202, it is on its way; the worker that comes later finds it, and the record says who it was."""
    engine = Engine(temporal, new_id("queue"))
    worker = Worker(
        temporal, task_queue=engine.task_queue, workflows=[StandIn], workflow_runner=UnsandboxedWorkflowRunner()
    )
    async with serving(database, engine, hot) as alone:
        session_id = await alone.start(tools=[])
        approval = await alone.hand.ask(session_id)
        answer = await alone.decide(approval, comment="Go.", role=Role.APPROVER)
        assert answer.status_code == 202
        assert answer.json()["status"] == "pending"
        assert int(answer.headers["retry-after"]) > 0
        [intended] = answer.json()["decisions"]
        assert (intended["counted"], intended["verified"]) == (False, True)
        handle = temporal.get_workflow_handle(session_id)
        async with worker:

            async def decided() -> bool:
                return await handle.query(StandIn.decided, approval["call_id"]) == "approve"

            await wait_until(decided, "the signal to be taken")
            again = await alone.decide(approval, comment="Go.", role=Role.APPROVER)
        assert again.status_code == 200
        [decision] = again.json()["decisions"]
        assert (decision["counted"], decision["verified"]) == (True, True)
        assert decision["by"].startswith("approver of")


async def test_no_worker_and_no_signals(temporal: Client, database: Database, hot: Hot, api: Api) -> None:
    """A server that refuses signals says so; what was intended is on record, and has decided nothing."""
    engine = Engine(temporal, new_id("queue"))
    async with serving(database, engine, hot, allow_signals=False) as alone:
        approval = await alone.hand.ask(await alone.start(tools=[]))
        answer = await alone.decide(approval)
        is_problem(answer, 503, "engine_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        stored = (await alone.get(f"/v1/approvals/{approval['id']}")).json()
        assert (stored["status"], [d["counted"] for d in stored["decisions"]]) == ("pending", [False])


async def test_no_worker_and_late(temporal: Client, database: Database, hot: Hot, api: Api) -> None:
    """A decision that comes after the expiry is not left for a worker: it would be refused there."""
    engine = Engine(temporal, new_id("queue"))
    async with serving(database, engine, hot) as alone:
        approval = await alone.hand.ask(await alone.start(tools=[]), seconds=0.01)
        is_problem(await alone.decide(approval), 409, "approval_expired")
        assert (await alone.get(f"/v1/approvals/{approval['id']}")).json()["decisions"] == []
