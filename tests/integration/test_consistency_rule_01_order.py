"""Postgres assigns order: versions are gapless and become visible in the order of their numbers."""

import asyncio

import pytest

from conductor_ai.contracts.status import CallState, Phase
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.writing import Writer, locked
from tests.places import WRITES, Place, attempt, backend, call, decision_of, fence


@pytest.fixture
def place(database: Database) -> Place:
    """A store."""
    return Place(database)


async def test_a_serial_shows_the_later_number_first(place: Place) -> None:
    """Numbers from a sequence: a reader who has seen 2 never looks for 1, which is committed later."""
    async with place.database.connection() as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS naive_events (seq bigserial PRIMARY KEY, who text)")
    async with place.database.connection() as slow, place.database.connection() as quick:
        transaction = slow.transaction()
        await transaction.start()
        first = await slow.fetchval("INSERT INTO naive_events (who) VALUES ('slow') RETURNING seq")
        second = await quick.fetchval("INSERT INTO naive_events (who) VALUES ('quick') RETURNING seq")
        assert second > first
        seen = await place.value("SELECT max(seq) FROM naive_events")
        await transaction.commit()
    missed = await place.value("SELECT count(*) FROM naive_events WHERE seq <= $1", seen)
    later = await place.value("SELECT count(*) FROM naive_events WHERE seq > $1", seen)
    assert (missed, later) == (2, 0)  # two are there, one was seen, and nobody will ever be told of the other


async def test_the_lock_makes_the_later_writer_wait(place: Place) -> None:
    """The same two writers under the row's lock: the second gets its number only after the first has committed."""
    session_id = await place.session()
    pids: asyncio.Queue[int] = asyncio.Queue()
    go_on = asyncio.Event()

    async def write(who: str, wait: asyncio.Event | None) -> int:
        async with place.database.transaction() as connection:
            pids.put_nowait(await backend(connection))
            writer = await locked(connection, session_id)
            writer.event("test", {"who": who})
            if wait is not None:
                await wait.wait()
            commit = await writer.flush()
            assert commit is not None
            return commit.version

    first = asyncio.create_task(write("first", go_on))
    one = await pids.get()
    second = asyncio.create_task(write("second", None))
    two = await pids.get()
    await place.blocked(two, by=one)
    assert [seq for seq, _ in await place.events(session_id)] == [1]
    go_on.set()
    assert (await first, await second) == (2, 3)


async def test_parallel_writers_leave_no_gap(place: Place) -> None:
    """Many writers at once: every number from 1 to the version is there once, and the version is the last."""
    session_id = await place.session()

    async def write(number: int) -> None:
        async def change(writer: Writer) -> None:
            for part in range(number % 3 + 1):
                writer.event("test", {"number": number, "part": part})

        await place.journal.write_unfenced(session_id, change)

    await asyncio.gather(*(write(number) for number in range(24)))
    seqs = [seq for seq, _ in await place.events(session_id)]
    assert seqs == list(range(1, 1 + 24 * 2 + 1))
    assert await place.snapshots.version("org_test", session_id) == seqs[-1]


async def test_a_write_that_changes_nothing_changes_nothing(place: Place) -> None:
    """The same writes once more: no event, the same version, the stored rows come back."""
    session_id, mine = await place.session(), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, mine)
    await place.asked_about(session_id, "run", mine)
    approve, ok = decision_of(mine), ToolResult(ok=True, content="first")
    await place.sessions.decided(session_id, approve)
    await place.calls.claim(fence(session_id), "run", 1, mine.call_id, decision=None, must_be_approved=True)
    await place.calls.settled(session_id, "run", 1, mine.call_id, CallState.SUCCEEDED, ok)
    before, events = await place.view(session_id), await place.events(session_id)

    again = await place.answered(session_id, "run", 1, call("sql_query", WRITES))
    await place.sessions.decided(session_id, approve)
    await place.sessions.decided(session_id, decision_of(mine, "deny"))
    await place.calls.claim(fence(session_id), "run", 2, mine.call_id, decision=approve, must_be_approved=True)
    other = ToolResult(ok=False, content="second")
    assert await place.calls.settled(session_id, "run", 1, mine.call_id, CallState.FAILED, other) == "succeeded"
    await place.models.paid(session_id, "run", attempt(1))

    assert [stored.call_id for stored in again.calls] == [mine.call_id]
    assert await place.view(session_id) == before
    assert await place.events(session_id) == events


async def test_parallel_tools_cannot_lose_results(place: Place) -> None:
    """A stored document loses one of two results that are written at once; rows keep both."""
    session_id = await place.session()
    one, two = call(), call()
    await place.answered(session_id, "run", 1, one, two)
    both = asyncio.Barrier(2)
    document: dict[str, str] = {}
    async with place.database.connection() as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS naive_snapshots (id text PRIMARY KEY, document jsonb)")
        await connection.execute("INSERT INTO naive_snapshots VALUES ($1, $2)", session_id, document)

    async def naive(call_id: str) -> None:
        async with place.database.transaction() as connection:
            read = await connection.fetchval("SELECT document FROM naive_snapshots WHERE id = $1", session_id)
            await both.wait()
            sql = "UPDATE naive_snapshots SET document = $2 WHERE id = $1"
            await connection.execute(sql, session_id, {**read, call_id: "done"})

    async def ours(call_id: str) -> None:
        await place.calls.claim(fence(session_id), "run", 1, call_id, decision=None, must_be_approved=False)
        await both.wait()
        result = ToolResult(ok=True, content="done")
        await place.calls.settled(session_id, "run", 1, call_id, CallState.SUCCEEDED, result)

    await asyncio.gather(naive(one.call_id), naive(two.call_id))
    await asyncio.gather(ours(one.call_id), ours(two.call_id))
    lost = await place.value("SELECT document FROM naive_snapshots WHERE id = $1", session_id)
    view = await place.view(session_id)
    assert len(lost) == 1
    assert [action.observation for action in view.steps[0].actions] == ["done", "done"]
    assert view.phase is Phase.THINKING


async def test_no_lock_is_held_over_a_call(place: Place) -> None:
    """While a call is executing (claimed, not settled), other writers go on at once."""
    session_id, running = await place.session(), call()
    await place.answered(session_id, "run", 1, running)
    await place.calls.claim(fence(session_id), "run", 1, running.call_id, decision=None, must_be_approved=False)
    async with asyncio.timeout(2):
        await place.models.paid(session_id, "run", attempt(7))
