"""Steps and durable events over HTTP, a page at a time."""

import pytest

from conductor_ai.names import event_id
from tests.fixtures_api import Api, is_problem


async def test_events_in_order(api: Api) -> None:
    """Every change is an event: numbered without gaps from 1, with a stable id, its type, time and members."""
    session_id = await api.start()
    await api.hand.ask(session_id)
    body = (await api.get(f"/v1/agents/{session_id}/events")).json()
    assert [event["seq"] for event in body["data"]] == list(range(1, body["version"] + 1))
    assert body["has_more"] is False
    types = [event["type"] for event in body["data"]]
    assert types[0] == "session.created"
    assert types.index("session.started") < types.index("model.answered") < types.index("approval.requested")
    first = body["data"][0]
    assert set(first) == {"id", "session_id", "seq", "type", "at", "data"}
    assert set(first["data"]) == {"model", "tools", "max_steps"}
    assert first["session_id"] == session_id
    assert first["id"] == event_id(session_id, 1)
    assert first["id"].startswith("evt_")
    assert first["at"].endswith("Z")
    assert (await api.get(f"/v1/agents/{session_id}")).json()["version"] == body["version"]
    assert (await api.get(f"/v1/agents/{session_id}/events")).json() == body
    assert len({event["id"] for event in body["data"]}) == len(body["data"])


async def test_events_a_page_at_a_time(api: Api) -> None:
    """`after` and `limit` walk through all of them, each once; past the last there is nothing, and that is no error."""
    session_id = await api.start()
    for _ in range(3):
        await api.hand.step(session_id, text="Hm.")
    whole = (await api.get(f"/v1/agents/{session_id}/events")).json()
    after, seen = 0, []
    while True:
        page = (await api.get(f"/v1/agents/{session_id}/events?after={after}&limit=2")).json()
        assert len(page["data"]) <= 2
        seen += page["data"]
        if not page["has_more"]:
            break
        after = page["data"][-1]["seq"]
    assert seen == whole["data"]
    past = (await api.get(f"/v1/agents/{session_id}/events?after=1000000")).json()
    assert past == {"data": [], "has_more": False, "version": whole["version"]}


async def test_steps_a_page_at_a_time(api: Api) -> None:
    """The steps are those of the session itself, the oldest first."""
    session_id = await api.start()
    for _ in range(3):
        await api.hand.step(session_id, text="Hm.", ask={"query": "SELECT 1"})
    session = (await api.get(f"/v1/agents/{session_id}")).json()
    body = (await api.get(f"/v1/agents/{session_id}/steps")).json()
    assert body == {"data": session["steps"], "has_more": False, "version": session["version"], "degraded": False}
    first = (await api.get(f"/v1/agents/{session_id}/steps?limit=2")).json()
    assert ([step["step_number"] for step in first["data"]], first["has_more"]) == ([1, 2], True)
    second = (await api.get(f"/v1/agents/{session_id}/steps?limit=2&after=2")).json()
    assert ([step["step_number"] for step in second["data"]], second["has_more"]) == ([3], False)


@pytest.mark.parametrize("what", ["events", "steps"])
@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=1001", f"after={2**53}", "colour=red"])
async def test_odd_queries(api: Api, what: str, query: str) -> None:
    """Numbers that cannot be and parameters that are not known are refused, not ignored."""
    session_id = await api.start()
    body = is_problem(await api.get(f"/v1/agents/{session_id}/{what}?{query}"), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/query/" + query.partition("=")[0]


@pytest.mark.parametrize("what", ["events", "steps", "stream"])
async def test_ids_that_are_none(api: Api, what: str) -> None:
    """What can be no id of a session is the same 404 as one that never was."""
    for odd in ("sess_1", "sess_" + "0" * 32, "x%00", "sess_" + "A" * 32):
        is_problem(await api.get(f"/v1/agents/{odd}/{what}"), 404, "not_found")
