"""POST /v1/agents/{id}/cancel: the row decides, whatever Temporal says and however often it is asked."""

import asyncio
import time

import pytest

from conductor_ai.contracts.status import StopReason
from conductor_ai.stores.access import Role
from tests.fixtures_api import Api, is_problem
from tests.fixtures_servers import wait_until


async def _cancelled_by_worker(api: Api, session_id: str) -> None:
    """What a worker does: sees the cancel, writes the end."""

    async def asked() -> bool:
        async with api.deps.database.connection() as connection:
            return bool(
                await connection.fetchval(
                    "SELECT cancel_requested_at IS NOT NULL FROM conductor.sessions WHERE id = $1", session_id
                )
            )

    await wait_until(asked, "the wish to cancel")
    await api.hand.finish(session_id, StopReason.CANCELLED)


async def test_cancel_waits_for_the_end(api: Api) -> None:
    """200 once it is cancelled, well within 5 s; the same again is 200, not an error."""
    session_id = await api.start()
    worker = asyncio.create_task(_cancelled_by_worker(api, session_id))
    answer = await api.post(f"/v1/agents/{session_id}/cancel", {"reason": "changed my mind"})
    await worker
    assert answer.status_code == 200
    body = answer.json()
    assert (body["session_id"], body["status"], body["phase"]) == (session_id, "cancelled", "done")
    assert body["message"]
    again = await api.post(f"/v1/agents/{session_id}/cancel")
    assert (again.status_code, again.json()) == (200, body)
    async with api.deps.database.connection() as connection:
        reason = await connection.fetchval("SELECT cancel_reason FROM conductor.sessions WHERE id = $1", session_id)
    assert reason == "changed my mind"
    state = await api.deps.engine.state(session_id)
    assert state is not None


async def test_cancel_that_takes_longer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody ends it in time: 202 with phase `cancelling`, also when asked again, and the workflow was told."""
    monkeypatch.setattr("api.agents_cancel.WAIT_SECONDS", 0.3)
    session_id = await api.start()
    for _ in range(2):
        answer = await api.post(f"/v1/agents/{session_id}/cancel")
        assert answer.status_code == 202
        assert (answer.json()["phase"], answer.json()["status"]) == ("cancelling", "pending")
    assert (await api.get(f"/v1/agents/{session_id}")).json()["phase"] == "cancelling"

    async def closed() -> bool:
        state = await api.deps.engine.state(session_id)
        return state is not None and state[1] is not None and state[1].name == "CANCELED"

    await wait_until(closed, "the workflow's end")


async def test_the_wait_is_five_seconds(api: Api) -> None:
    """The longest answer takes some 5 s and not more."""
    session_id = await api.start()
    began = time.monotonic()
    assert (await api.post(f"/v1/agents/{session_id}/cancel")).status_code == 202
    assert 4.5 < time.monotonic() - began < 7


@pytest.mark.parametrize("reason", [StopReason.FINAL_ANSWER, StopReason.MAX_STEPS])
async def test_cancel_of_what_has_ended(api: Api, reason: StopReason) -> None:
    """A session that completed or failed stays as it is: 409."""
    session_id = await api.start()
    await api.hand.step(session_id, text="Done.")
    await api.hand.finish(session_id, reason)
    before = (await api.get(f"/v1/agents/{session_id}")).json()
    is_problem(await api.post(f"/v1/agents/{session_id}/cancel"), 409, "session_ended")
    assert (await api.get(f"/v1/agents/{session_id}")).json() == before


@pytest.mark.parametrize(
    ("role", "allowed"), [(Role.VIEWER, False), (Role.APPROVER, False), (Role.OPERATOR, True), (Role.ADMIN, True)]
)
async def test_who_may_start_and_cancel(api: Api, role: Role, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators and admins; the others are told that their role does not allow it. An id that is nobody's is asked for first."""
    monkeypatch.setattr("api.agents_cancel.WAIT_SECONDS", 0.0)
    session_id = await api.start()
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    start = await api.post("/v1/agents/run", body, role=role)
    cancel = await api.post(f"/v1/agents/{session_id}/cancel", role=role)
    nothing = await api.post("/v1/agents/sess_nothing/cancel", role=role)
    is_problem(nothing, 404, "not_found")
    if allowed:
        assert (start.status_code, cancel.status_code) == (202, 202)
    else:
        for answer in (start, cancel):
            is_problem(answer, 403, "forbidden")


async def test_bodies_of_a_cancel(api: Api) -> None:
    """No body, an empty object or a reason; anything else is refused and nothing is cancelled."""
    session_id = await api.start()
    url = f"/v1/agents/{session_id}/cancel"
    is_problem(await api.post(url, {"reasons": "x"}), 422, "invalid_request")
    is_problem(await api.post(url, content=b"reason=x"), 415, "unsupported_media_type")
    assert (await api.get(f"/v1/agents/{session_id}")).json()["phase"] == "queued"
