"""What a process remembers of a conversation is what the rows say, also after a reset and after a late result."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from conductor_ai.contracts.models import AssistantTurn, ModelReply, ResultTurn, Stop
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.stores.model_journal import Answer, ModelJournal
from conductor_ai.stores.postgres import Connection, Database
from conductor_ai.stores.prefixes import Prefixes
from conductor_ai.stores.transcript import Conversation, Prefix, Reading, StoredCall, conversation
from tests.places import Place, attempt, call, fence


@pytest.fixture
def place(database: Database) -> Place:
    """A store."""
    return Place(database)


async def asked(models: ModelJournal, session_id: str, call_no: int, run_id: str = "run") -> Conversation:
    """The conversation before a model call."""
    found = await models.begin(fence(session_id, call_no), run_id, call_no)
    assert not isinstance(found, Answer)
    return found


async def ran(place: Place, session_id: str, stored: StoredCall, text: str, run_id: str = "run") -> None:
    """Run a call, with this result."""
    await place.calls.claim(fence(session_id), run_id, 1, stored.call_id, decision=None, must_be_approved=False)
    result = ToolResult(ok=True, content=text)
    await place.calls.settled(session_id, run_id, 1, stored.call_id, CallState.SUCCEEDED, result)


async def test_what_is_remembered_is_what_is_stored(place: Place) -> None:
    """Step by step, a process that remembers and one that reads everything see the same, and compute the same digest."""
    session_id = await place.session()
    for call_no in range(1, 6):
        remembered = await asked(place.models, session_id, call_no)
        fresh = await asked(ModelJournal(place.journal), session_id, call_no)
        assert remembered == fresh
        assert len(remembered.turns) == 1 + 2 * (call_no - 1)
        stored = call()
        await place.answered(session_id, "run", call_no, stored)
        await ran(place, session_id, stored, f"result {call_no}")


async def test_a_long_session_reads_only_what_is_new(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that a step reads are as many in the tenth step as in the second."""
    read: list[int] = []

    def counted(prefix: Prefix, rows: list[Any], written: list[Any]) -> Prefix:
        read.append(len(rows))
        return extended(prefix, rows, written)

    import conductor_ai.stores.transcript as module

    extended = module.extended
    monkeypatch.setattr(module, "extended", counted)
    session_id = await place.session()
    for call_no in range(1, 11):
        await asked(place.models, session_id, call_no)
        stored = call()
        await place.answered(session_id, "run", call_no, stored)
        await ran(place, session_id, stored, "x")
    assert sum(read) == 9


async def five_steps(place: Place) -> str:
    """A session whose first five steps this process has seen."""
    session_id = await place.session()
    for call_no in range(1, 6):
        await asked(place.models, session_id, call_no)
        stored = call()
        await place.answered(session_id, "run", call_no, stored)
        await ran(place, session_id, stored, f"result {call_no}")
    return session_id


async def test_a_run_goes_on_with_what_the_one_before_remembered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """After continue-as-new a process reads what is new and no more, and it is what one that reads everything sees."""
    session_id = await five_steps(place)
    import conductor_ai.stores.transcript as module

    opened = 0
    opening = module._opening

    async def counted(*given: Any) -> Prefix | None:
        nonlocal opened
        opened += 1
        return await opening(*given)

    monkeypatch.setattr(module, "_opening", counted)
    place.current[session_id] = "next"
    remembered = await asked(place.models, session_id, 6, "next")
    assert opened == 0
    assert remembered == await asked(ModelJournal(place.journal), session_id, 6, "next")
    assert len(remembered.turns) == 11


async def test_nothing_long_is_read_under_the_lock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that remembers nothing, of a run that holds the session: it reads while somebody else has the row locked. Of a
    run that takes the session over: it has read the conversation before it locks the row, and reads only what is new then."""
    session_id = await five_steps(place)
    async with place.database.transaction() as connection:
        await connection.execute("SELECT FROM conductor.sessions WHERE id = $1 FOR NO KEY UPDATE", session_id)
        fresh = await asyncio.wait_for(asked(ModelJournal(place.journal), session_id, 6), 3)
    assert fresh == await asked(place.models, session_id, 6)

    looks: list[tuple[bool, bool]] = []

    async def looked(connection: Connection, *given: Any) -> Reading | None:
        looks.append((connection.is_in_transaction(), given[-1] is not None))
        return await conversation(connection, *given)

    monkeypatch.setattr("conductor_ai.stores.model_journal.conversation", looked)
    for run, next_call in (("next", 6), ("reset", 3)):
        place.current[session_id] = run
        looks.clear()
        taken = await asked(ModelJournal(place.journal), session_id, next_call, run)
        assert looks == [(False, False), (True, True)]
        assert taken == await asked(ModelJournal(place.journal), session_id, next_call, run)
        assert len(taken.turns) == 1 + 2 * (next_call - 1)


async def test_what_was_read_before_the_lock_is_not_believed_of_another_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the lock a third run takes the session over and answers anew: everything is read again."""
    session_id = await place.session()
    for call_no in (1, 2):
        await place.answered(session_id, "run", call_no, call(state=CallState.SUCCEEDED), number=call_no)

    async def looked(connection: Connection, *given: Any) -> Reading | None:
        found = await conversation(connection, *given)
        if not connection.is_in_transaction():
            place.current[session_id] = "third"
            await place.models.answered(
                fence(session_id, 2),
                "third",
                attempt(2),
                input_sha="",
                reply=ModelReply(stop=Stop.END, text="another answer"),
                calls=(),
                started_at=datetime.now(UTC),
                latency_ms=1,
            )
            place.current[session_id] = "mine"
        return found

    monkeypatch.setattr("conductor_ai.stores.model_journal.conversation", looked)
    place.current[session_id] = "mine"
    found = await asked(ModelJournal(place.journal), session_id, 3, "mine")
    assert [turn.text for turn in found.turns if isinstance(turn, AssistantTurn)] == ["I think.", "another answer"]


async def test_an_unknown_outcome_is_read_again(place: Place) -> None:
    """The outcome of a call is found out after the next model call was asked: the one after that is told."""
    session_id, stored = await place.session(), call()
    await asked(place.models, session_id, 1)
    await place.answered(session_id, "run", 1, stored)
    await place.calls.claim(fence(session_id), "run", 1, stored.call_id, decision=None, must_be_approved=False)
    unknown = ToolResult(ok=False, content="not known")
    await place.calls.settled(session_id, "run", 1, stored.call_id, CallState.OUTCOME_UNKNOWN, unknown)
    before = await asked(place.models, session_id, 2)
    await place.answered(session_id, "run", 2)
    found = ToolResult(ok=True, content="it happened")
    await place.calls.resolved(session_id, stored.call_id, CallState.SUCCEEDED, found)
    after = await asked(place.models, session_id, 3)
    assert [turn.text for turn in before.turns if isinstance(turn, ResultTurn)] == ["not known"]
    assert [turn.text for turn in after.turns if isinstance(turn, ResultTurn)] == ["it happened"]


async def test_a_reset_is_not_remembered(place: Place) -> None:
    """After a reset the new run is asked without what the old one did, in the same process."""
    session_id = await place.session()
    for call_no, text in ((1, "kept"), (2, "taken back")):
        await asked(place.models, session_id, call_no)
        stored = call()
        await place.answered(session_id, "run", call_no, stored)
        await ran(place, session_id, stored, text)
    await asked(place.models, session_id, 3)
    place.current[session_id] = "new"
    found = await asked(place.models, session_id, 2, "new")
    assert [turn.text for turn in found.turns if isinstance(turn, ResultTurn)] == ["kept"]
    assert found.set_back


def test_memory_has_a_bound() -> None:
    """The session that was used longest ago is forgotten first; another run of a session finds nothing."""
    one = Prefix(
        before=1, org_id="o", system="", tools=(), output_schema=None, turns=(), turns_sha256="", characters=40
    )
    known = Prefixes(most_characters=100)
    known.put("a", "run", one)
    known.put("b", "run", one)
    assert known.get("a", "other") is None
    assert known.get("a", "run") is one
    known.put("c", "run", one)
    assert (known.get("b", "run"), known.get("a", "run"), known.get("c", "run")) == (None, one, one)
    known.put("d", "run", replace(one, characters=101))
    assert known.get("d", "run") is None
    known.forget("nobody")
