"""The Python client against the real server, over a socket, in both its forms."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from temporalio.client import Client

from conductor_ai.client import (
    AlreadyDecided,
    AsyncConductor,
    Choice,
    Conductor,
    ConnectionFailed,
    DigestMismatch,
    EventView,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    Remember,
    SeenElsewhere,
    SessionBusy,
    SessionEnded,
    SessionOpen,
    SessionView,
    Unauthenticated,
    UnknownModel,
    WaitTimeout,
)
from conductor_ai.contracts.status import ApprovalStatus, Phase, Status
from conductor_ai.stores.access import Role
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine
from tests.fixtures_api import Api, serving
from tests.fixtures_cutting import cutting
from tests.fixtures_servers import wait_until
from tests.fixtures_socket import listening
from tests.integration.test_api_explain import stack
from tests.rig import answer

CUTS = 12


@dataclass
class Served:
    """The API on a socket, and a client of its own organisation."""

    api: Api
    url: str
    client: AsyncConductor

    def as_(self, role: Role) -> AsyncConductor:
        """A client with a key of this role."""
        return AsyncConductor(self.url, self.api.secrets[role])


@pytest.fixture
async def served(api: Api) -> AsyncIterator[Served]:
    """The API on a socket."""
    async with listening(api) as port:
        url = f"http://127.0.0.1:{port}"
        async with AsyncConductor(url, api.secrets[Role.ADMIN]) as client:
            yield Served(api, url, client)


async def test_a_session_from_start_to_end(served: Served) -> None:
    """Start, wait for the question, approve what was seen, wait for the end: every field has arrived."""
    client, hand = served.client, served.api.hand
    started = await client.sessions.run(
        "Say hello.",
        tools=[],
        max_steps=3,
        title="Hello",
        metadata={"order": 7, "vip": True},
        limits={"deadline_seconds": 600},
    )
    assert started.status is Status.PENDING
    waiting = asyncio.create_task(client.sessions.wait(started.session_id, timeout=20))
    asked = await hand.ask(started.session_id)
    session = await waiting
    assert (session.phase, session.title, session.metadata) == (
        Phase.AWAITING_APPROVAL,
        "Hello",
        {"order": 7, "vip": True},
    )
    [approval] = session.pending_approvals
    assert approval.id == asked["id"]
    decided = await client.approvals.approve(approval, comment="It only reads.")
    assert decided.status is ApprovalStatus.APPROVED
    assert decided.decisions[0].comment == "It only reads."
    ending = asyncio.create_task(client.sessions.wait(started.session_id, until="ended", timeout=20))
    await hand.step(started.session_id, text="Hello.")
    await hand.finish(started.session_id)
    session = await ending
    assert (session.status, session.final_answer) == (Status.COMPLETED, "Hello.")
    last = await client.sessions.get(started.session_id, steps="last")
    assert [step.step_number for step in last.steps] == [2]
    explained = await client.sessions.explain(started.session_id)
    assert explained.waits_for == "nothing"
    with pytest.raises(SessionEnded) as caught:
        await client.sessions.cancel(started.session_id)
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


async def test_without_asyncio(served: Served) -> None:
    """The same methods, waited for: a program without a loop has the same client."""
    key, hand = served.api.secrets[Role.ADMIN], served.api.hand

    def start() -> str:
        with Conductor(served.url, key) as client:
            started = client.sessions.run([{"role": "user", "content": "Say hello."}], tools=[])
            return started.session_id

    def decide(session_id: str) -> SessionView:
        with Conductor(served.url, key) as client:
            [approval] = client.approvals.list(status="pending", session_id=session_id)
            client.approvals.deny(approval, comment="Not today.")
            client.sessions.cancel(session_id, reason="enough")
            return client.sessions.wait(session_id, until="ended", timeout=20)

    session_id = await asyncio.to_thread(start)
    await hand.ask(session_id)
    ending = asyncio.create_task(asyncio.to_thread(decide, session_id))

    async def cancelling() -> bool:
        return (await served.client.sessions.get(session_id)).phase is Phase.CANCELLING

    await wait_until(cancelling, "the cancel")
    await hand.finish(session_id)
    assert (await ending).status is Status.CANCELLED


async def test_lists_go_through_all_pages(served: Served) -> None:
    """Iterating shows each entry once, however small the pages; a page alone says whether there are more."""
    client = served.client
    made = [(await client.sessions.run("Hello", tools=[], title=str(i))).session_id for i in range(5)]
    listed = [each.session_id async for each in client.sessions.list(limit=2)]
    assert listed == made[::-1]
    page = await client.sessions.list(limit=2).page()
    assert (len(page.data), page.has_more) == (2, True)
    rest = [each.session_id async for each in client.sessions.list(limit=2, cursor=page.next_cursor)]
    assert rest == made[::-1][2:]

    def waits() -> list[str]:
        with Conductor(served.url, served.api.secrets[Role.VIEWER]) as other:
            return [each.session_id for each in other.sessions.list(limit=3)]

    assert await asyncio.to_thread(waits) == listed
    assert [each async for each in client.sessions.list(status="failed")] == []


async def test_the_same_key_starts_once(served: Served) -> None:
    """A key of the caller's own is recognised across clients; with another body it is refused."""
    first = await served.client.sessions.run("Hello", tools=[], idempotency_key="order-7")
    async with served.as_(Role.OPERATOR) as other:
        again = await other.sessions.run("Hello", tools=[], idempotency_key="order-7")
        assert again.session_id == first.session_id
        with pytest.raises(IdempotencyMismatch):
            await other.sessions.run("Good bye", tools=[], idempotency_key="order-7")
    fresh = await served.client.sessions.run("Hello", tools=[])
    assert fresh.session_id != first.session_id


async def test_decisions_are_about_what_was_seen(served: Served) -> None:
    """Another digest is refused, the same decision again is no error, a contrary one says who was first."""
    client = served.client
    started = await client.sessions.run("Hello", tools=[])
    asked = await served.api.hand.ask(started.session_id)
    with pytest.raises(DigestMismatch):
        await client.approvals.approve(SeenElsewhere(asked["id"], "0" * 64))
    seen = SeenElsewhere(asked["id"], asked["arguments_sha256"])
    await client.approvals.decide(seen, "approve")
    assert (await client.approvals.approve(await client.approvals.get(asked["id"]))).status is ApprovalStatus.APPROVED
    with pytest.raises(AlreadyDecided) as caught:
        await client.approvals.deny(seen)
    members = caught.value.problem.members
    assert members is not None
    decided = members["decided"]
    assert isinstance(decided, dict)
    assert str(decided["by"]).startswith("admin of")


async def test_refusals_are_typed(served: Served) -> None:
    """No key, a wrong one, one without the right, another's session, an unknown model, a wrong field."""
    started = await served.client.sessions.run("Hello", tools=[])
    for key in (None, "ck_" + "x" * 40):
        async with AsyncConductor(served.url, key) as stranger:
            with pytest.raises(Unauthenticated):
                await stranger.sessions.get(started.session_id)
            assert (await stranger.health.get()).status == "healthy"
    async with served.as_(Role.VIEWER) as viewer:
        with pytest.raises(Forbidden, match="operator"):
            await viewer.sessions.run("Hello")
    foreign = await served.api.other()
    async with AsyncConductor(served.url, foreign.secrets[Role.ADMIN]) as other:
        with pytest.raises(NotFound):
            await other.sessions.get(started.session_id)
    with pytest.raises(UnknownModel) as caught:
        await served.client.sessions.run("Hello", model="gpt-none")
    assert caught.value.problem.errors[0].pointer == "/model"
    with pytest.raises(InvalidRequest, match="/max_steps"):
        await served.client.sessions.run("Hello", max_steps=0)


async def test_polling(served: Served) -> None:
    """A poll answers with what is newer, or with nothing; a wait that is too short says how the session was."""
    client = served.client
    started = await client.sessions.run("Hello", tools=[])
    session = await client.sessions.get(started.session_id, steps="none")
    assert await client.sessions.poll(started.session_id, session.version, seconds=0.1) is None
    polling = asyncio.create_task(client.sessions.poll(started.session_id, session.version))
    await served.api.hand.step(started.session_id, text="Hello.")
    newer = await polling
    assert newer is not None
    assert newer.version > session.version
    with pytest.raises(WaitTimeout) as caught:
        await client.sessions.wait(started.session_id, timeout=0.1)
    assert caught.value.session.session_id == started.session_id


async def test_catalogues(served: Served) -> None:
    """Tools, models and health as the server has them."""
    client = served.client
    assert {tool.name for tool in await client.tools.list()} >= {"web_fetch", "sql_query"}
    assert [tool.name for tool in await client.tools.list(category="database")] == ["sql_query"]
    assert (await client.tools.get("sql_query")).requires_approval
    models = await client.models.list()
    assert (await client.models.get(models[0].id)).id == models[0].id
    assert (await client.health.ready()).status == "ready"


async def test_a_server_that_comes_back(api: Api) -> None:
    """Who is patient does not notice that the server was away: the start waits for it, and happens once."""
    async with listening(api) as port:
        pass
    async with AsyncConductor(f"http://127.0.0.1:{port}", api.secrets[Role.ADMIN]) as client:
        with pytest.raises(ConnectionFailed):
            await client.with_options(patience=0).sessions.run("Hello", tools=[])
        starting = asyncio.create_task(client.sessions.run("Hello", tools=[]))
        async with listening(api, port):
            started = await starting
            assert [each.session_id async for each in client.sessions.list()] == [started.session_id]


async def test_a_stream_outlives_its_server(api: Api, database: Database, standing_in: Engine, hot: Hot) -> None:
    """The server goes away and another takes its place: every event once and in order, to the last, and then the stream ends by itself."""
    session_id = await api.start(tools=[])
    got: list[int] = []
    async with listening(api) as port:
        client = AsyncConductor(f"http://127.0.0.1:{port}", api.secrets[Role.VIEWER])
        stream = client.sessions.stream(session_id)
        await api.hand.step(session_id, text="Hello.")
        while len(got) < 2:
            item = await anext(stream)
            if isinstance(item, EventView):
                got.append(item.seq)
    async with serving(database, standing_in, hot, with_keys=False) as other, listening(other, port):
        await api.hand.finish(session_id)
        got += [item.seq async for item in stream if isinstance(item, EventView)]
        version = (await client.sessions.get(session_id)).version
        assert got == list(range(1, version + 1))
        assert [event.seq async for event in client.sessions.events(session_id, limit=2)] == got
        assert [step.step_number async for step in client.sessions.steps(session_id, limit=1)] == [1]
        assert [item async for item in client.sessions.stream(session_id, after=version)] == []
        await client.close()


async def test_a_stream_that_is_cut_every_200_ms(api: Api) -> None:
    """Behind a proxy that loses each connection, mostly in the middle of a message, both forms of the client have every event once
    and in order, to the last, as the list of events has them; and do not give up."""
    session_id, key = await api.start(), api.secrets[Role.VIEWER]

    def read(url: str) -> list[EventView]:
        with Conductor(url, key) as client:
            return [item for item in client.sessions.stream(session_id) if isinstance(item, EventView)]

    async def read_async(url: str) -> list[EventView]:
        async with AsyncConductor(url, key) as client:
            return [item async for item in client.sessions.stream(session_id) if isinstance(item, EventView)]

    async with listening(api) as port, cutting(port) as one, cutting(port) as two:
        reading = asyncio.gather(asyncio.to_thread(read, one.url), read_async(two.url))

        async def often_enough() -> bool:
            number = api.hand.calls.get(session_id, 0) + 1
            await api.deps.hot.delta(api.org, session_id, number, 1, "words that may be lost " * 20)
            await api.hand.step(session_id, text="words that are kept " * 20, ask={"query": f"SELECT {number}"})
            return min(one.cuts, two.cuts) >= CUTS

        await wait_until(often_enough, "many cuts", 60)
        await api.hand.finish(session_id)
        waited, awaited = await asyncio.wait_for(reading, 30)
        async with AsyncConductor(f"http://127.0.0.1:{port}", key) as client:
            stored = [event async for event in client.sessions.events(session_id)]
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    assert stored[-1].type == "session.ended"
    assert waited == stored
    assert awaited == stored


async def test_a_stream_without_asyncio(served: Served) -> None:
    """The same as an ordinary loop; leaving it early hangs up."""
    session_id = (await served.client.sessions.run("Hello", tools=[])).session_id
    await served.api.hand.step(session_id, text="Hello.")
    await served.api.hand.finish(session_id)

    def all_of_it() -> list[str]:
        with Conductor(served.url, served.api.secrets[Role.VIEWER]) as client:
            with client.sessions.stream(session_id) as first:
                next(first)
            return [item.type for item in client.sessions.stream(session_id) if isinstance(item, EventView)]

    types = await asyncio.to_thread(all_of_it)
    assert (types[0], types[-1]) == ("session.created", "session.ended")


async def test_decisions_that_do_more(served: Served) -> None:
    """Edit, answer, remember, and many at once, each about what was seen."""
    client, hand = served.client, served.api.hand
    session_id = (await client.sessions.run("Hello", tools=[])).session_id
    edited, answered, kept, last = [await client.approvals.get((await hand.ask(session_id))["id"]) for _ in range(4)]
    after = await client.approvals.edit(edited, {"query": "SELECT 2", "params": []}, comment="Two.")
    assert after.status is ApprovalStatus.EDITED
    assert (await client.approvals.answer(answered, "There are three.")).status is ApprovalStatus.ANSWERED
    await client.approvals.approve(kept, remember=Remember(uses=2))
    [grant] = [each async for each in client.grants.list()]
    assert (grant.uses_left, grant.approval_id) == (2, kept.id)
    assert (await client.grants.revoke(grant.id)).revoked_at is not None
    assert [each async for each in client.grants.list()] == []
    assert (await client.grants.get(grant.id)).id == grant.id
    nobody = SeenElsewhere(f"appr_{'0' * 32}", "0" * 64)
    results = await client.approvals.decide_many([Choice(last, "deny", "No."), Choice(nobody, "approve")])
    assert [(result.status, result.code) for result in results] == [(200, None), (404, "not_found")]


async def test_messages_and_pause(served: Served) -> None:
    """What people send to a running session arrives."""
    client = served.client
    session_id = (await client.sessions.run("Hello", tools=[], approval={"expires_in": 90})).session_id
    sent = await client.sessions.send_message(session_id, "And in euros?", idempotency_key="m-1")
    again = await client.sessions.send_message(session_id, "And in euros?", idempotency_key="m-1")
    assert sent.message_id == again.message_id
    with pytest.raises(SessionBusy):
        await client.sessions.send_message(session_id, "Now?", if_busy="reject")
    assert (await client.sessions.pause(session_id, reason="Let me look.")).session_id == session_id
    assert (await client.sessions.resume(session_id)).session_id == session_id


async def test_a_budget(temporal: Client, store_url: str, hot: Hot) -> None:
    """A limit that is not named stays, None lifts it; the answer has them as they are stored."""
    async with (
        stack(temporal, store_url, hot, replies=[answer()]) as (api, _),
        listening(api) as port,
        AsyncConductor(f"http://127.0.0.1:{port}", api.secrets[Role.ADMIN]) as client,
    ):
        started = await client.sessions.run("Hello", tools=[], mode="chat", limits={"max_total_tokens": 500})
        budget = (await client.sessions.update_budget(started.session_id, max_cost_usd=2.5)).budget
        assert budget is not None
        assert (budget.max_cost_usd, budget.max_total_tokens) == (2.5, 500)
        lifted = (await client.sessions.update_budget(started.session_id, max_total_tokens=None)).budget
        assert lifted is not None
        assert (lifted.max_cost_usd, lifted.max_total_tokens) == (2.5, None)


async def test_keys_are_made_listed_and_revoked(served: Served) -> None:
    """The secret works until it is revoked, and is shown once."""
    client = served.client
    made = await client.api_keys.create("of a test", "viewer")
    assert made.secret.startswith("ck_")
    listed = [key async for key in client.api_keys.list()]
    assert made.id in [key.id for key in listed if key.revoked_at is None]
    await client.api_keys.revoke(made.id)
    await client.api_keys.revoke(made.id)
    listed = [key async for key in client.api_keys.list()]
    assert made.id in [key.id for key in listed if key.revoked_at is not None]


async def test_a_session_is_deleted_once_it_has_ended(served: Served) -> None:
    """Open: refused. Ended: gone, and then not found."""
    client = served.client
    session_id = (await client.sessions.run("Hello", tools=[], metadata={"of": "deletion"})).session_id
    assert [each.session_id async for each in client.sessions.list(metadata={"of": "deletion"})] == [session_id]
    with pytest.raises(SessionOpen):
        await client.sessions.delete(session_id)
    await served.api.hand.step(session_id, text="Hello.")
    await served.api.hand.finish(session_id)
    await client.sessions.delete(session_id)
    with pytest.raises(NotFound):
        await client.sessions.get(session_id)
