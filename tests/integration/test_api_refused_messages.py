"""A message that was refused, also with 503, is not read later, unless its sender repeats it under the same Idempotency-Key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.client import Client

from conductor_ai import names
from conductor_ai.contracts.status import Phase
from conductor_ai.errors import Code, Unavailable
from conductor_ai.stores.controlling import Controls
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.model_journal import ModelJournal
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine
from tests.fixtures_api import Api, is_problem, nowhere, serving
from tests.fixtures_servers import wait_until
from tests.gates import Held, activity_worker, workflow_worker
from tests.integration.test_api_explain import stack, start, until
from tests.places import ORG, Place, fence
from tests.rig import Rig, answer
from tests.workflow.test_conversation import heard


@asynccontextmanager
async def without_temporal(api: Api, database: Database, hot: Hot) -> AsyncIterator[Api]:
    """Another API process of the same server, which does not reach Temporal."""
    async with serving(database, await nowhere(), hot, with_keys=False) as broken:
        yield Api(broken.http, broken.deps, broken.hand, api.org, api.secrets)


async def send(api: Api, session_id: str, text: str, *, key: str | None = None, if_busy: str = "reject") -> Any:
    """Write to a session."""
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"content": text, "if_busy": if_busy}
    return await api.post(f"/v1/agents/{session_id}/messages", body, headers=headers)


async def said(api: Api, session_id: str) -> list[tuple[str, str]]:
    """The messages that the session shows, with what became of each."""
    shown = (await api.get(f"/v1/agents/{session_id}")).json()["messages"]
    return [(message["content"], message["status"]) for message in shown]


async def answered(api: Api, session_id: str, steps: int) -> None:
    """Wait until the chat has made so many steps and waits again."""

    async def so() -> bool:
        session = (await api.get(f"/v1/agents/{session_id}")).json()
        return len(session["steps"]) == steps and session["phase"] == "awaiting_input"

    await wait_until(so, f"{steps} answers", 20)


@pytest.mark.parametrize("if_busy", ["reject", "enqueue", "interrupt"])
async def test_temporal_is_away(if_busy: str, temporal: Client, store_url: str, database: Database, hot: Hot) -> None:
    """503 between storing and sending: nothing of it is left, and the next message is read alone."""
    async with stack(temporal, store_url, hot, replies=[answer("one"), answer("two")]) as (api, r):
        session_id = await start(api, mode="chat")
        await answered(api, session_id, 1)
        async with without_temporal(api, database, hot) as broken:
            is_problem(await send(broken, session_id, "refused", if_busy=if_busy), 503, "engine_unavailable")
        assert [content for content, _ in await said(api, session_id)] == ["Say hello."]
        assert (await api.get(f"/v1/agents/{session_id}")).json()["phase"] == "awaiting_input"
        assert (await send(api, session_id, "second")).status_code == 202
        await answered(api, session_id, 2)
        assert await said(api, session_id) == [("Say hello.", "read"), ("second", "read")]
    assert heard(r)[-1] == ["Say hello.", "one", "second"]


async def test_the_same_key_sends_it_again(temporal: Client, store_url: str, database: Database, hot: Hot) -> None:
    """Repeated under its key once Temporal is there: it is read, once."""
    async with stack(temporal, store_url, hot, replies=[answer("one"), answer("two")]) as (api, r):
        session_id = await start(api, mode="chat")
        await answered(api, session_id, 1)
        async with without_temporal(api, database, hot) as broken:
            is_problem(await send(broken, session_id, "second", key="k"), 503, "engine_unavailable")
        first = await send(api, session_id, "second", key="k")
        again = await send(api, session_id, "second", key="k")
        assert (first.status_code, again.json()) == (202, first.json())
        await answered(api, session_id, 2)
    assert heard(r)[-1] == ["Say hello.", "one", "second"]


async def test_a_worker_that_comes_too_late(temporal: Client, store_url: str, hot: Hot) -> None:
    """No worker in time: 503. Temporal may bring the announcement to the next one all the same: no turn is made of it."""
    async with stack(temporal, store_url, hot, run=False, replies=[answer("one"), answer("two")]) as (api, r):
        async with workflow_worker(r), activity_worker(r):
            session_id = await start(api, mode="chat")
            await answered(api, session_id, 1)
        is_problem(await send(api, session_id, "refused", key="k"), 503, "engine_unavailable")
        async with workflow_worker(r), activity_worker(r):
            await _rest(r, session_id)
            assert [content for content, _ in await said(api, session_id)] == ["Say hello."]
            assert heard(r) == [["Say hello."]]
            assert (await send(api, session_id, "refused", key="k")).status_code == 202
            await answered(api, session_id, 2)
            assert heard(r)[-1] == ["Say hello.", "one", "refused"]
            await api.post(f"/v1/agents/{session_id}/cancel", {})
            await until(api, session_id, "ended")


async def _rest(r: Rig, session_id: str) -> None:
    """Wait until the workflow has done all that had been left for it."""

    async def still() -> bool:
        state = await r.handle(session_id).query(names.STATE)
        described = await r.handle(session_id).describe()
        return not state["inbox"] and state["idle"] and not described.raw_description.pending_activities

    await wait_until(still, "the workflow to rest", 20)


async def test_one_that_nobody_answered_for(database: Database) -> None:
    """Its API process died between storing and sending: neither is it read along with another message, nor does it put an
    end off, nor does it make an idle session look busy."""
    place = Place(database)
    session_id = await place.session(mode="chat")
    place.current[session_id] = "run_1"
    await place.answered(session_id, "run_1", 1)
    controls, journal = Controls(place.journal), ModelJournal(place.journal)
    left = await controls.post(ORG, session_id, "nobody knows", "ann", names.new_id("msg"), only_if_idle=True)
    later = await controls.post(ORG, session_id, "later", "ann", names.new_id("msg"))
    await journal.read_messages(fence(session_id, 2), "run_1", 2, (later.message_id,))
    view = await place.view(session_id)
    assert [message.status for message in view.messages] == ["read", "waiting", "read"]
    outcome = await place.finish(session_id, "run_1", reads_on=True)
    assert outcome.unread is None
    assert (await place.view(session_id)).phase is Phase.DONE
    assert left.message_id in str((await place.view(session_id)).messages)


async def test_an_attempt_that_is_too_late_takes_nothing_back(
    temporal: Client, store_url: str, hot: Hot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt stands still for so long that its repeat takes over and is told 202; then it fails. The message is its
    successor's, which nobody takes back: it is read, and whoever asks again hears what the successor was told."""
    provider = Held([answer("one"), answer("two")], at=1)
    async with stack(temporal, store_url, hot, provider=provider) as (api, r):
        session_id = await start(api)
        await asyncio.wait_for(provider.asked.wait(), 20)
        real, told = Engine.control, []

        async def late(*given: Any, **more: Any) -> Any:
            monkeypatch.setattr(Engine, "control", real)
            async with api.deps.database.connection() as connection:
                await connection.execute("UPDATE conductor.idempotency SET leased_until = now() WHERE key = 'late'")
            told.append(await send(api, session_id, "second", key="late", if_busy="enqueue"))
            raise Unavailable("Too late.", code=Code.ENGINE_UNAVAILABLE)

        monkeypatch.setattr(Engine, "control", late)
        is_problem(await send(api, session_id, "second", key="late", if_busy="enqueue"), 409, "idempotency_in_flight")
        again = await send(api, session_id, "second", key="late", if_busy="enqueue")
        assert ([told[0].status_code, again.status_code], again.json()) == ([202, 202], told[0].json())
        provider.go_on.set()
        await until(api, session_id, "ended")
        assert await said(api, session_id) == [("Say hello.", "read"), ("second", "read")]
    assert heard(r)[-1] == ["Say hello.", "one", "second"]
