"""Streams over a real socket: replay, then live, no gap and no duplicate; deltas are a bonus and never delay an event."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from api import fanout
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.hot import CONNECTIONS, Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import Tools
from conductor_ai.temporal import Engine
from tests.fixtures_api import PUBLISHED, Api, is_problem, serving
from tests.fixtures_servers import wait_until
from tests.fixtures_stream import Streams, streams_of


@pytest.fixture
async def streams(api: Api) -> AsyncIterator[Streams]:
    """The API with every dependency there, on a socket."""
    async with streams_of(api) as opened:
        yield opened


async def version(api: Api, session_id: str) -> int:
    """Number of the session's last event."""
    return int((await api.get(f"/v1/agents/{session_id}/events?after=1000000")).json()["version"])


async def test_replay_then_live_then_the_end(api: Api, streams: Streams) -> None:
    """All events so far, then each as it happens, up to `session.ended`; the stream closes; who comes back gets 204."""
    session_id = await api.start()
    await api.hand.step(session_id, text="One.")
    async with streams.open(session_id) as reader:
        assert reader.answer.headers["content-type"].startswith("text/event-stream")
        assert reader.answer.headers["cache-control"] == "no-cache"
        assert reader.answer.headers["x-accel-buffering"] == "no"
        assert "x-request-id" in reader.answer.headers
        await reader.until("model.answered")
        assert reader.retry == 1000
        await api.hand.step(session_id, text="Two.")
        await reader.until("model.answered")
        await api.hand.finish(session_id)
        await reader.rest()
    assert reader.heard[-1].event == "session.ended"
    stored = (await api.get(f"/v1/agents/{session_id}/events")).json()
    assert [message.data for message in reader.heard if message.id] == stored["data"]
    assert reader.seqs == list(range(1, stored["version"] + 1))
    assert all(message.event == message.data["type"] for message in reader.heard if message.id)
    for last in (stored["version"], stored["version"] + 5):
        for headers, query in (({"Last-Event-ID": str(last)}, ""), ({}, f"?after={last}")):
            answer = await api.get(f"/v1/agents/{session_id}/stream{query}", headers=headers)
            assert (answer.status_code, answer.content) == (204, b"")
    async with streams.open(session_id, last=stored["version"] - 1) as again:
        assert [message.event for message in await again.rest()] == ["session.ended"]


async def test_coming_back(api: Api, streams: Streams) -> None:
    """`Last-Event-ID` continues where the reader was, and wins over the `after` of the address, which is older."""
    session_id = await api.start()
    await api.hand.step(session_id, text="One.")
    last = await version(api, session_id)
    async with streams.open(session_id, f"?after={last - 2}") as reader:
        assert [(await reader.event()).id, (await reader.event()).id] == [str(last - 1), str(last)]
    async with streams.open(session_id, "?after=0", last=last) as reader:
        await api.hand.step(session_id, text="Two.")
        assert (await reader.event()).id == str(last + 1)
    async with streams.open(session_id, "?after=0", last="") as reader:
        assert (await reader.event()).id == "1"


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "1" * 16, "evt_" + "0" * 32])
async def test_odd_last_event_ids(api: Api, last: str) -> None:
    """An id that is none of ours is refused: silence would look like a session in which nothing happens."""
    session_id = await api.start()
    answer = await api.get(f"/v1/agents/{session_id}/stream", headers={"Last-Event-ID": last})
    assert is_problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "/header/Last-Event-ID"
    body = is_problem(await api.get(f"/v1/agents/{session_id}/stream?after=x"), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/query/after"


async def test_a_ring_brings_it_at_once(api: Api, streams: Streams) -> None:
    """With Redis there an event is on its way well before the next look, a second later."""
    session_id = await api.start()
    clock = asyncio.get_running_loop().time
    took = []
    async with streams.open(session_id, f"?after={await version(api, session_id)}") as reader:
        for _ in range(4):
            await api.hand.step(session_id, text="Hm.")
            began = clock()
            await reader.until("model.answered")
            took.append(clock() - began)
    assert min(took) < 0.3, took


async def test_without_redis(database: Database, standing_in: Engine) -> None:
    """No Redis at all: events come by looking each second; there are no deltas."""
    await Tools(database).publish("main", PUBLISHED)
    async with serving(database, standing_in, Hot(None)) as api, streams_of(api) as streams:
        session_id = await api.start()
        async with streams.open(session_id) as reader:
            await reader.event()
            await api.hand.step(session_id, text="Hm.")
            await reader.until("model.answered")
            await api.hand.finish(session_id)
            await reader.rest()
        assert reader.seqs == list(range(1, await version(api, session_id) + 1))
        assert all(message.id for message in reader.heard)


async def test_a_reader_who_is_far_behind(api: Api, streams: Streams) -> None:
    """More events than one page and than the feed keeps, some before the stream and some during it: each once, in order."""
    session_id = await api.start()
    await api.hand.step(session_id, text="Hm.")
    first = await version(api, session_id)
    await many_events(api, session_id, 700)
    async with streams.open(session_id) as slow, streams.open(session_id, last=first + 700) as quick:
        await slow.event()
        await many_events(api, session_id, 600)
        await quick.until("model.answered")
        await api.hand.finish(session_id)
        await asyncio.gather(slow.rest(), quick.rest())
    last = await version(api, session_id)
    assert slow.seqs == list(range(1, last + 1))
    assert quick.seqs == list(range(first + 701, last + 1))


async def many_events(api: Api, session_id: str, count: int) -> None:
    """Append events as `writing.py` does, under the lock; then one more step, which rings."""
    async with api.deps.database.transaction() as connection:
        at = await connection.fetchval(
            "SELECT version FROM conductor.sessions WHERE id = $1 FOR NO KEY UPDATE", session_id
        )
        await connection.execute(
            "INSERT INTO conductor.events (session_id, seq, type, body) "
            "SELECT $1, $2 + n, 'model.retrying', '{}' FROM generate_series(1, $3::integer) n",
            session_id,
            at,
            count,
        )
        await connection.execute(
            "UPDATE conductor.sessions SET version = version + $2 WHERE id = $1", session_id, count
        )
    await api.hand.step(session_id, text="Hm.")


async def test_deltas(api: Api, streams: Streams) -> None:
    """Pieces of an answer come before its event, without an id; a new attempt begins at 0; the dead one's stop."""
    session_id, hot = await api.start(), api.deps.hot
    async with streams.open(session_id) as reader:
        await reader.event()
        await hot.delta(api.org, session_id, 1, 1, "Hel")
        assert (await reader.next()).data == piece(session_id, 1, 1, 0, "Hel")
        await hot.delta(api.org, session_id, 1, 1, "p")
        assert (await reader.next()).data == piece(session_id, 1, 1, 3, "p")
        await hot.delta(api.org, session_id, 1, 2, "Hello")
        message = await reader.next()
        assert (message.event, message.id, message.data) == ("delta", None, piece(session_id, 1, 2, 0, "Hello"))
        await hot.delta(api.org, session_id, 1, 1, " from the dead")
        await hot.delta(api.org, session_id, 1, 2, " world")
        await api.hand.step(session_id, text="Hello world")
        await reader.until("model.answered")
    texts = [(m.data["attempt"], m.data["text"]) for m in reader.heard if m.event == "delta"]
    assert texts[:3] == [(1, "Hel"), (1, "p"), (2, "Hello")]
    assert "".join(text for attempt, text in texts if attempt == 2) == "Hello world"
    assert "dead" not in str(texts)


def piece(session_id: str, call_no: int, attempt: int, offset: int, text: str) -> dict[str, object]:
    """The data of a delta."""
    return {"session_id": session_id, "call_no": call_no, "attempt": attempt, "offset": offset, "text": text}


async def test_deltas_for_who_comes_later(api: Api, streams: Streams) -> None:
    """Who joins in the middle of an answer is told what it says so far; who joins after it, or wants none, is told nothing."""
    session_id, hot = await api.start(), api.deps.hot
    await hot.delta(api.org, session_id, 1, 1, "The first ")
    await hot.delta(api.org, session_id, 1, 1, "half")
    async with streams.open(session_id) as reader, streams.open(session_id, "?deltas=false") as plain:
        await reader.until("delta")
        assert reader.heard[-1].data == piece(session_id, 1, 1, 0, "The first half")
        await api.hand.step(session_id, text="The first half and the second")
        await asyncio.gather(reader.until("model.answered"), plain.until("model.answered"))
        async with streams.open(session_id) as late:
            await hot.delta(api.org, session_id, 2, 1, "next")
            await late.until("delta")
    assert [m.data["call_no"] for m in late.heard if m.event == "delta"] == [2]
    assert all(m.id for m in plain.heard)


async def test_many_readers_share_connections(api: Api, streams: Streams, database: Database, redis_url: str) -> None:
    """60 streams of three sessions take no connection of their own to Postgres or Redis, and one reader for each session."""
    sessions = [await api.start() for _ in range(3)]
    async with redis.asyncio.Redis.from_url(redis_url) as watching:

        async def connections() -> int:
            return len(await watching.client_list())

        async with streams.open(sessions[0]) as first:
            await first.event()
            before = await connections()
            opened = [streams.open(sessions[number % 3]) for number in range(60)]
            readers = await asyncio.gather(*(reader.__aenter__() for reader in opened))
            await asyncio.gather(*(reader.event() for reader in readers))
            assert len(api.deps.fanout._feeds) == 3
            for session_id in sessions:
                await api.hand.step(session_id, text="Hm.")
            await asyncio.gather(*(reader.until("model.answered") for reader in readers))
            assert await connections() <= before + CONNECTIONS, (
                "as many as its pool has, however many streams there are"
            )
            async with database.connection() as connection:
                backends = await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
                )
            assert backends <= 10 + 1
            await asyncio.gather(*(reader.__aexit__(None, None, None) for reader in opened))

    async def gone() -> bool:
        return not api.deps.fanout._feeds and not api.deps.fanout._open and not api.deps.rings._bells

    await wait_until(gone, "the feeds to be given up")


async def test_a_cap_for_each_organisation(database: Database, standing_in: Engine, hot: Hot) -> None:
    """One more than allowed is 429 with Retry-After; another organisation, and who closed one, is welcome."""
    await Tools(database).publish("main", PUBLISHED)
    async with serving(database, standing_in, hot, streams_per_org=2) as api, streams_of(api) as streams:
        session_id = await api.start()
        other = await api.other()
        theirs = await other.start()
        async with streams.open(session_id) as first, streams.open(session_id):
            answer = await api.get(f"/v1/agents/{session_id}/stream")
            is_problem(answer, 429, "too_many_streams")
            assert int(answer.headers["retry-after"]) > 0
            async with Streams(other, streams.http).open(theirs) as welcome:
                await welcome.event()
            await first.event()

        async def free() -> bool:
            return not api.deps.fanout._open

        await wait_until(free, "the places to be given back")
        async with streams.open(session_id) as again:
            await again.event()


async def test_refusals_take_no_place(api: Api) -> None:
    """404, 422 and 204 leave nothing behind."""
    session_id = await api.start()
    await api.hand.step(session_id, text="Done.")
    await api.hand.finish(session_id)
    other = await api.other()
    for _ in range(3):
        is_problem(await other.get(f"/v1/agents/{session_id}/stream"), 404, "not_found")
        await api.get(f"/v1/agents/{session_id}/stream?after=999")
        is_problem(await api.get(f"/v1/agents/{session_id}/stream?colour=red"), 422, "invalid_request")
    assert not api.deps.fanout._open
    assert not api.deps.fanout._feeds


async def test_a_revoked_key_ends_its_streams(api: Api, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open stream does not outlive its key; those of other keys go on."""
    monkeypatch.setattr(fanout, "CHECK_SECONDS", 0.1)
    session_id = await api.start()
    key, secret = await Keys(api.deps.database).create(api.org, "short-lived", Role.VIEWER)
    api.secrets[Role.OPERATOR] = secret
    async with streams.open(session_id, role=Role.OPERATOR) as theirs, streams.open(session_id) as others:
        await asyncio.gather(theirs.event(), others.event())
        async with api.deps.database.connection() as connection:
            await connection.execute("UPDATE conductor.api_keys SET revoked_at = now() WHERE id = $1", key.id)
        now = api.deps.keys._clock()
        monkeypatch.setattr(api.deps.keys, "_clock", lambda: now + 61)
        await theirs.rest()
        await api.hand.step(session_id, text="Hm.")
        await others.until("model.answered")
    assert theirs.heard[-1].event != "session.ended"


async def test_a_process_that_stops_lets_go(api: Api, streams: Streams) -> None:
    """Streams end at once when the process stops, so that nothing waits for them; the reader knows where it was."""
    session_id = await api.start()
    async with streams.open(session_id) as reader:
        await reader.event()
        api.deps.fanout.close()
        await reader.rest(5)
    assert reader.heard[-1].event != "session.ended"


async def test_pings(api: Api, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream in which nothing happens says so now and then, in a comment without an id."""
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    session_id = await api.start()
    async with streams.open(session_id) as reader:
        await reader.event()

        async def waits() -> None:
            await reader.until("model.answered")

        waiting = asyncio.create_task(waits())

        async def pinged() -> bool:
            return "ping" in reader.comments

        await wait_until(pinged, "a ping")
        await api.hand.step(session_id, text="Hm.")
        await waiting
    assert reader.seqs == sorted(set(reader.seqs))


async def test_nothing_is_missed_between_replay_and_live(api: Api, streams: Streams) -> None:
    """Streams that open at any time while events are written have each event once and in order."""
    session_id = await api.start()

    async def write() -> None:
        for _ in range(25):
            await api.hand.step(session_id, text="Hm.")
        await api.hand.finish(session_id)

    async def watch(after_a_while: float) -> list[int]:
        await asyncio.sleep(after_a_while)
        async with streams.open(session_id) as reader:
            await reader.rest(60)
        return reader.seqs

    writing = asyncio.create_task(write())
    seen = await asyncio.gather(*(watch(number * 0.03) for number in range(20)))
    await writing
    last = await version(api, session_id)
    assert all(seqs == list(range(1, last + 1)) for seqs in seen)
