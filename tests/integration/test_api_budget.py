"""Budgets over HTTP with a real worker: the workflow merges what is asked for, its activity writes the row, in that order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from conductor_ai import names
from conductor_ai.stores.access import Role
from conductor_ai.stores.hot import Hot
from tests.fixtures_api import Api, is_problem
from tests.integration.test_api_explain import stack, start, until
from tests.rig import answer

ROUNDS = 5


@pytest.fixture
async def api(temporal: Client, store_url: str, hot: Hot) -> AsyncIterator[Api]:
    """An API and a worker whose model answers chats."""
    async with stack(temporal, store_url, hot, replies=[answer()]) as (running, _):
        yield running


async def patch(api: Api, session_id: str, body: object) -> httpx.Response:
    """Change the budget."""
    return await api.http.patch(f"/v1/agents/{session_id}/budget", json=body, headers=api.as_(Role.OPERATOR))


async def budget(api: Api, session_id: str) -> tuple[Any, Any]:
    """The limits that the session shows, and that its workflow agrees on."""
    shown = (await api.get(f"/v1/agents/{session_id}")).json()["budget"]
    state = await api.deps.engine.client.get_workflow_handle(session_id).query(names.STATE)
    held = state["limits"]["max_cost_usd"], state["limits"]["max_total_tokens"]
    found = shown["max_cost_usd"], shown["max_total_tokens"]
    assert (None if held[0] is None else float(held[0]), held[1]) == found, "the row and the workflow disagree"
    return found


async def idle(api: Api, **more: Any) -> str:
    """A chat that waits for a message."""
    session_id = await start(api, mode="chat", **more)
    await until(api, session_id, "awaiting_input")
    return session_id


async def test_it_is_changed_in_parts(api: Api) -> None:
    """A limit that is not named stays, null lifts it, and the caller reads their own write."""
    session_id = await idle(api, limits={"max_cost_usd": 0.1, "max_total_tokens": 1000})
    for body, wanted in (
        ({"max_cost_usd": 0.3}, (0.3, 1000)),
        ({"max_total_tokens": None}, (0.3, None)),
        ({}, (0.3, None)),
        ({"max_cost_usd": 0.2, "max_total_tokens": 5000}, (0.2, 5000)),
    ):
        answered = await patch(api, session_id, body)
        assert answered.status_code == 200, answered.text
        shown = answered.json()["budget"]
        assert (shown["max_cost_usd"], shown["max_total_tokens"]) == wanted
        assert await budget(api, session_id) == wanted
    changes = await api.get(f"/v1/agents/{session_id}/events")
    told = [event["data"] for event in changes.json()["data"] if event["type"] == "session.limits_changed"]
    assert len(told) == 3, "what changes nothing writes nothing"
    assert told[0]["by"].startswith("operator of")


async def test_two_at_once_are_both_heard(api: Api) -> None:
    """One person changes the cost, another the tokens, at the same moment: neither takes back what the other asked for."""
    session_id = await idle(api, limits={"max_cost_usd": 100, "max_total_tokens": 100_000})
    for number in range(1, ROUNDS + 1):
        answers = await asyncio.gather(
            patch(api, session_id, {"max_cost_usd": 100 + number}),
            patch(api, session_id, {"max_total_tokens": 100_000 + number}),
        )
        assert [answered.status_code for answered in answers] == [200, 200]
        assert await budget(api, session_id) == (100 + number, 100_000 + number)


async def test_many_at_once_end_as_the_workflow_has_them(api: Api) -> None:
    """Whoever is last in the workflow is last in the row: no late write of an earlier one lands on top."""
    session_id = await idle(api, limits={"max_total_tokens": 100_000})
    for number in range(ROUNDS):
        wanted = [200_000 + 10 * number + turn for turn in range(4)]
        answers = await asyncio.gather(*(patch(api, session_id, {"max_total_tokens": tokens}) for tokens in wanted))
        assert {answered.status_code for answered in answers} == {200}
        assert (await budget(api, session_id))[1] in wanted


async def test_what_is_no_budget(api: Api) -> None:
    """Refused with 422, and nothing is changed."""
    session_id = await idle(api, limits={"max_total_tokens": 1000})
    for odd in (
        {"max_cost_usd": -1},
        {"max_cost_usd": "1"},
        {"max_total_tokens": 0},
        {"max_total_tokens": 1.5},
        {"x": 1},
    ):
        is_problem(await patch(api, session_id, odd), 422, "invalid_request")
    assert (await api.get(f"/v1/agents/{session_id}")).json()["budget"]["max_total_tokens"] == 1000
