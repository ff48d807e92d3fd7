"""What a type checker must know of the client: one description, two ways to call it. Not run: checked by mypy with the rest."""

from typing import assert_type

from conductor_ai.client import AsyncConductor, Conductor
from conductor_ai.contracts.answers import BatchResult, CancelAnswer, Page, RunAccepted, ToolView
from conductor_ai.contracts.events import DeltaView, EventView
from conductor_ai.contracts.views import ApprovalView, SessionSummary, SessionView


def waits(client: Conductor) -> None:
    """Without asyncio a method returns its result."""
    started = client.sessions.run("Hello", max_steps=3, limits={"deadline_seconds": 60})
    assert_type(started, RunAccepted)
    assert_type(client.sessions.wait(started.session_id, until="ended", timeout=5), SessionView)
    assert_type(client.sessions.poll(started.session_id, 3), SessionView | None)
    assert_type(client.sessions.cancel(started.session_id, reason="enough"), CancelAnswer)
    assert_type(client.sessions.list(status="running").page(), Page[SessionSummary])
    assert_type(client.tools.list(), tuple[ToolView, ...])
    for approval in client.approvals.list(status="pending"):
        assert_type(approval, ApprovalView)
        assert_type(client.approvals.approve(approval), ApprovalView)
    assert_type(client.with_options(patience=0), Conductor)

    with client.sessions.stream(started.session_id) as stream:
        assert_type(next(stream), EventView | DeltaView)
    assert_type(client.approvals.decide_many([]), tuple[BatchResult, ...])

    client.sessions.get(7)  # type: ignore[arg-type]
    client.sessions.get("sess_1", step="last")  # type: ignore[call-arg]
    client.sessions.get("sess_1", steps="some")  # type: ignore[arg-type]
    client.sessions.run("Hello", limits={"deadline": 60})  # type: ignore[arg-type]
    client.approvals.approve("appr_1")  # type: ignore[arg-type]


async def awaits(client: AsyncConductor) -> None:
    """With asyncio the same method is awaited, with the same parameters."""
    started = await client.sessions.run("Hello", max_steps=3)
    assert_type(started, RunAccepted)
    assert_type(await client.sessions.wait(started.session_id), SessionView)
    assert_type(await client.sessions.poll(started.session_id, 3), SessionView | None)
    assert_type(await client.sessions.list(status="running").page(), Page[SessionSummary])
    async for approval in client.approvals.list(status="pending"):
        assert_type(approval, ApprovalView)
        assert_type(await client.approvals.deny(approval, comment="no"), ApprovalView)

    async for item in client.sessions.stream(started.session_id, deltas=False):
        assert_type(item, EventView | DeltaView)

    await client.sessions.get("sess_1", step="last")  # type: ignore[call-arg]
    for _ in client.sessions.list():  # type: ignore[attr-defined]
        pass
