"""Model calls are journalled: look first, pay once, return what is stored, and never lose what was paid."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from conductor_ai.contracts.models import ModelReply, ModelRequest
from conductor_ai.contracts.session import Fence, ModelInput
from conductor_ai.embedded.postgres import Durability, EmbeddedPostgres
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.stores.postgres import Database
from conductor_ai.testing.scripted import Listener, ScriptedProvider
from tests.fixtures_servers import migrated_database, postgres_in
from tests.places import Place, as_activity, call
from tests.rig import answer, calls, rig
from tests.tools import FakeTool


def asking(session_id: str, call_no: int = 1) -> ModelInput:
    """What the workflow sends for a model call."""
    fence = Fence(session_id=session_id, next_call_no=call_no)
    return ModelInput(fence=fence, call_no=call_no, step=call_no, model="demo", max_attempts=3)


async def test_a_one_statement_upsert_returns_no_row(database: Database) -> None:
    """Why insert and select are two statements: the CTE that does both does not see the other writer's row."""
    sql = (
        "WITH mine AS (INSERT INTO naive_answers VALUES (1, $1) ON CONFLICT DO NOTHING RETURNING answer) "
        "SELECT answer FROM mine UNION ALL SELECT answer FROM naive_answers WHERE id = 1"
    )
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE naive_answers (id int PRIMARY KEY, answer text)")
    place = Place(database)
    async with database.connection() as first, database.connection() as second:
        transaction = first.transaction()
        await transaction.start()
        await first.execute(sql, "first")
        pid, by = [await c.fetchval("SELECT pg_backend_pid()") for c in (second, first)]
        waiting = asyncio.create_task(second.fetch(sql, "second"))
        await place.blocked(pid, by=by)
        await transaction.commit()
        assert await waiting == []


async def test_two_attempts_at_once_store_one_answer(database: Database) -> None:
    """A zombie attempt and its successor both answer: both get the same stored answer, both are paid, one is kept."""
    place = Place(database)
    session_id = await place.session()
    await place.models.begin(Fence(session_id=session_id, next_call_no=1), "run", 1)
    mine, other = call(), call()
    first, second = await asyncio.gather(
        place.answered(session_id, "run", 1, mine, number=1), place.answered(session_id, "run", 1, other, number=2)
    )
    view = await place.view(session_id)
    assert first.calls == second.calls
    assert len(first.calls) == 1
    assert (view.input_tokens, view.steps[0].attempts, len(view.steps[0].actions)) == (20, 2, 1)


async def test_after_a_lost_completion_nobody_is_asked_again(temporal: Client, store_url: str, task_queue: str) -> None:
    """Attempt 1 stored its answer but its completion was lost: attempt 2 returns the same and asks no provider."""
    provider = ScriptedProvider([calls(("web_fetch", {"text": "x"})), answer("never seen")])
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool()], run=False) as r:
        place = Place(r.parts.database)
        session_id = await place.session(tools=("web_fetch",))
        model = r.parts.models.call_model
        first = await as_activity(model, asking(session_id), run_id="run", attempt=1)
        second = await as_activity(model, asking(session_id), run_id="run", attempt=2)
        view = await place.view(session_id)
    assert first == second
    assert first.calls
    assert len(provider.requests) == 1
    assert (view.input_tokens, view.steps[0].attempts) == (100, 1)


class Overtaken(ScriptedProvider):
    """While it thinks, the workflow is reset and another run claims the session."""

    place: Place
    session_id: str
    error: Exception | None = None

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """The next step, too late."""
        reply = await super().complete(request, listener)
        self.place.current[self.session_id] = "new"
        await self.place.models.begin(Fence(session_id=self.session_id, next_call_no=1), "new", 1)
        if self.error is not None:
            raise self.error
        return reply


@pytest.mark.parametrize(
    "error",
    [
        None,
        ModelFailure("Broken.", code=Code.MODEL_UNAVAILABLE, retryable=False),
        ModelFailure("Broken.", code=Code.MODEL_UNAVAILABLE, retryable=True),
    ],
    ids=["answered", "failed", "to be retried"],
)
async def test_usage_of_a_fenced_attempt_is_stored(
    temporal: Client, store_url: str, task_queue: str, error: ModelFailure | None
) -> None:
    """An attempt that lost the session while the model thought was billed all the same; its answer is not stored."""
    provider = Overtaken([answer()])
    async with rig(temporal, store_url, task_queue, provider=provider, run=False) as r:
        place = provider.place = Place(r.parts.database)
        r.parts.models._journal = place.models
        session_id = provider.session_id = await place.session(tools=())
        provider.error = error
        with pytest.raises(Exception) as failed:
            await as_activity(r.parts.models.call_model, asking(session_id), run_id="old")
        view = await place.view(session_id)
    assert getattr(failed.value, "type", None) in (Code.FENCED, Code.MODEL_UNAVAILABLE)
    assert (view.input_tokens, view.output_tokens, view.steps) == (50, 10, ())


async def test_usage_of_a_cancelled_attempt_is_stored(temporal: Client, store_url: str, task_queue: str) -> None:
    """A cancel in the middle of a stream: what the provider had counted so far is stored."""
    heard = asyncio.Event()

    class Endless(ScriptedProvider):
        async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
            listener.usage(answer().usage)
            heard.set()
            await asyncio.Event().wait()
            raise AssertionError

    async with rig(temporal, store_url, task_queue, provider=Endless(), run=False) as r:
        place = Place(r.parts.database)
        session_id = await place.session(tools=())
        running = asyncio.create_task(as_activity(r.parts.models.call_model, asking(session_id), run_id="run"))
        await heard.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert (await place.view(session_id)).input_tokens == 50


class Away(ScriptedProvider):
    """Postgres stops while the model answers."""

    def __init__(self, server: EmbeddedPostgres, *steps: ModelReply) -> None:
        super().__init__(steps)
        self.server = server
        self.away = asyncio.Event()

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """The next step; the store is away when it comes."""
        reply = await super().complete(request, listener)
        self.server._durability = Durability.FULL  # `stop` removes the data of a throwaway server
        await self.server.stop()
        self.server._durability = Durability.THROWAWAY
        self.away.set()
        return reply


@pytest.mark.slow
async def test_the_answer_is_kept_until_postgres_is_back(temporal: Client, task_queue: str, tmp_path: Path) -> None:
    """Postgres goes away between answer and journal: the activity heartbeats, repeats the write, and asks nobody again."""
    beats: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
    async with postgres_in(tmp_path) as server:
        provider = Away(server, answer("paid once"))
        url = await migrated_database(server)
        async with rig(temporal, url, task_queue, provider=provider, run=False) as r:
            place = Place(r.parts.database)
            session_id = await place.session(tools=())
            running = asyncio.create_task(
                as_activity(
                    r.parts.models.call_model,
                    asking(session_id),
                    run_id="run",
                    on_heartbeat=lambda *a: beats.put_nowait(a),
                )
            )
            async with asyncio.timeout(30):
                await provider.away.wait()
                for _ in range(2):
                    await beats.get()
            assert not running.done()
            await server.start()
            outcome = await asyncio.wait_for(running, 30)
            view = await place.view(session_id)
    assert (outcome.stop, outcome.said) == ("end", "paid once")
    assert len(provider.requests) == 1
    assert (view.input_tokens, len(view.steps)) == (50, 1)
