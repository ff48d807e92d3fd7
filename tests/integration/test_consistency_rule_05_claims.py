"""A tool call is claimed before its effect: of all attempts that may run it, exactly one does."""

import asyncio

import pytest

from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import Facts, ToolResult
from conductor_ai.stores.call_journal import Claimed, NotClaimed
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.transcript import StoredCall
from tests.places import READS, WRITES, WRITES_ONCE, Place, call, decision_of, fence

OK = ToolResult(ok=True, content="done")


@pytest.fixture
def place(database: Database) -> Place:
    """A store."""
    return Place(database)


async def ready(place: Place, facts: Facts) -> tuple[str, StoredCall]:
    """A session with one call that is ready."""
    session_id, stored = await place.session(), call("sql_query", facts)
    await place.answered(session_id, "run", 1, stored)
    return session_id, stored


async def take(place: Place, session_id: str, stored: StoredCall, attempt: int, run: str = "run") -> bool:
    """Claim as this attempt. Whether it may run the call."""
    claim = await place.calls.claim(
        fence(session_id), run, attempt, stored.call_id, decision=None, must_be_approved=False
    )
    assert isinstance(claim, Claimed | NotClaimed)
    return isinstance(claim, Claimed)


@pytest.mark.parametrize(
    ("facts", "first", "second", "again"),
    [
        (READS, ("run", 1), ("run", 2), True),
        (READS, ("run", 2), ("run", 1), False),
        (READS, ("run", 1), ("run", 1), False),
        (READS, ("run", 3), ("new", 1), True),
        (WRITES_ONCE, ("run", 1), ("run", 2), True),
        (WRITES, ("run", 1), ("run", 2), False),
        (WRITES, ("run", 1), ("new", 1), False),
    ],
    ids=["newer", "older", "same", "newer run", "newer, kept once by a ledger", "a write, newer", "a write, newer run"],
)
async def test_who_may_take_over(
    place: Place, facts: Facts, first: tuple[str, int], second: tuple[str, int], again: bool
) -> None:
    """An executing call is taken over by a newer attempt or run only, and only if it is replayable."""
    session_id, stored = await ready(place, facts)
    place.current[session_id] = second[0]
    assert await take(place, session_id, stored, first[1], first[0])
    assert await take(place, session_id, stored, second[1], second[0]) is again


async def test_of_two_attempts_at_once_one_runs(place: Place) -> None:
    """Look-then-run lets both attempts run; the claim lets one."""
    session_id, stored = await ready(place, WRITES)
    both = asyncio.Barrier(2)
    ran: list[str] = []

    async def naive(name: str) -> None:
        state = await place.state_of(stored)
        await both.wait()
        if state == "ready":
            ran.append(name)

    await asyncio.gather(naive("one"), naive("two"))
    taken = await asyncio.gather(*(take(place, session_id, stored, number) for number in (1, 2)))
    assert ran == ["one", "two"] or ran == ["two", "one"]
    assert sorted(taken) == [False, True]


async def test_only_the_holder_settles(place: Place) -> None:
    """The older attempt of a call that was taken over wakes up late: its result is not the call's."""
    session_id, stored = await ready(place, READS)
    assert await take(place, session_id, stored, 1)
    assert await take(place, session_id, stored, 2)
    late = ToolResult(ok=False, content="of a zombie")
    assert await place.calls.settled(session_id, "run", 1, stored.call_id, CallState.FAILED, late) == "executing"
    assert await place.calls.settled(session_id, "run", 2, stored.call_id, CallState.SUCCEEDED, OK) == "succeeded"
    assert not await take(place, session_id, stored, 3)


async def test_a_late_result_of_the_holder_replaces_unknown(place: Place) -> None:
    """The outcome was given up as unknown while the one attempt still ran: what it says then is the truth."""
    session_id, stored = await ready(place, WRITES)
    assert await take(place, session_id, stored, 1)
    unknown = ToolResult(ok=False, content="?")
    await place.calls.resolved(session_id, stored.call_id, CallState.OUTCOME_UNKNOWN, unknown)
    assert await place.calls.settled(session_id, "run", 1, stored.call_id, CallState.SUCCEEDED, OK) == "succeeded"


async def test_no_claim_without_the_approval_of_exactly_this(place: Place) -> None:
    """A call that must be approved is taken with its approval and no other; a denial is never overruled by a claim."""
    session_id, stored = await ready(place, WRITES)
    await place.asked_about(session_id, "run", stored)
    for decision in (None, decision_of(stored, arguments_sha256="0" * 64)):
        claim = await place.calls.claim(
            fence(session_id), "run", 1, stored.call_id, decision=decision, must_be_approved=True
        )
        assert isinstance(claim, NotClaimed)
        assert not claim.executing
    await place.sessions.decided(session_id, decision_of(stored, "deny"))
    claim = await place.calls.claim(
        fence(session_id), "run", 1, stored.call_id, decision=decision_of(stored), must_be_approved=True
    )
    assert isinstance(claim, NotClaimed)
    assert await place.state_of(stored) == "denied"


async def test_nothing_is_claimed_after_a_cancel_was_accepted(place: Place) -> None:
    """The flag is set but Temporal was never told: whoever would begin an effect sees it under the same lock."""
    session_id, stored = await ready(place, WRITES)
    await place.sessions.request_cancel("org_test", session_id, None)
    with pytest.raises(Exception, match="cancel"):
        await take(place, session_id, stored, 1)
    assert await place.state_of(stored) == "ready"
