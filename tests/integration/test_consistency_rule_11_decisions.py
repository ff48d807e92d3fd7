"""A decision by the API: the workflow's verdict is written by the same SQL as the workflow's own, whoever comes first."""

import asyncio

import pytest

from conductor_ai.contracts.session import CallDenied
from conductor_ai.contracts.status import CallState
from conductor_ai.errors import Conflict, NotFound
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.transcript import StoredCall
from tests.places import ORG, WRITES, Place, call, decision_of, fence


@pytest.fixture
def place(database: Database) -> Place:
    """A store."""
    return Place(database)


async def waits(place: Place) -> tuple[str, StoredCall, str]:
    """A session, its call, and the approval that is pending."""
    session_id, stored = await place.session(), call("sql_query", WRITES)
    await place.answered(session_id, "run", 1, stored)
    return session_id, stored, await place.asked_about(session_id, "run", stored)


async def test_the_caller_reads_what_they_wrote(place: Place) -> None:
    """The API writes the verdict before the workflow's next activity does: the answer shows the decision at once."""
    session_id, stored, approval = await waits(place)
    await place.sessions.decided(session_id, decision_of(stored, "deny", comment="no"))
    shown = await place.snapshots.approval(ORG, approval)
    assert shown is not None
    assert (shown.status, [d.comment for d in shown.decisions]) == ("denied", ["no"])
    assert await place.state_of(stored) == CallState.DENIED


async def test_api_and_workflow_write_the_same_decision_at_once(place: Place) -> None:
    """Both write one decision: one row, one event, one result."""
    session_id, stored, _ = await waits(place)
    decision = decision_of(stored, "deny")
    await asyncio.gather(
        place.sessions.decided(session_id, decision),
        place.changes.record(fence(session_id), "run", 1, (CallDenied(decision=decision),)),
    )
    assert await place.value("SELECT count(*) FROM conductor.decisions WHERE call_id = $1", stored.call_id) == 1
    kinds = [kind for _, kind in await place.events(session_id)]
    assert (kinds.count("approval.decided"), kinds.count("tool.finished")) == (1, 1)


async def test_two_people_decide_and_one_counts(place: Place) -> None:
    """Whatever reaches the rows second never flips them."""
    session_id, stored, approval = await waits(place)
    for kind, by in (("approve", "ann"), ("deny", "bob")):
        decision = decision_of(stored, kind, by=by)
        await place.intentions.intend(ORG, decision)
        await place.sessions.decided(session_id, decision)
    shown = await place.snapshots.approval(ORG, approval)
    assert shown is not None
    assert (shown.status, [(d.by, d.counted) for d in shown.decisions]) == (
        "approved",
        [("ann", True), ("bob", False)],
    )


async def test_an_intention_makes_a_signal_verified(place: Place) -> None:
    """The API wrote down who decides before it sent the signal, which cannot prove it: the record says who it was."""
    session_id, stored, approval = await waits(place)
    meant = decision_of(stored, decision_id="known", by="ann", comment="fine")
    await place.intentions.intend(ORG, meant)
    await place.intentions.intend(ORG, meant)  # a repeated request
    shown = await place.snapshots.approval(ORG, approval)
    assert shown is not None
    assert [d.counted for d in shown.decisions] == [False]
    by_signal = decision_of(stored, decision_id="known", by="temporal-access", verified=False, via="signal")
    await place.calls.claim(fence(session_id), "run", 1, stored.call_id, decision=by_signal, must_be_approved=True)
    shown = await place.snapshots.approval(ORG, approval)
    assert shown is not None
    assert [(d.by, d.verified, d.via, d.counted) for d in shown.decisions] == [("ann", True, "api", True)]


async def test_an_intention_proves_nothing_else(place: Place) -> None:
    """The id of an approval that ann intends does not make somebody's denial hers, nor a guess of another org."""
    session_id, stored, approval = await waits(place)
    await place.intentions.intend(ORG, decision_of(stored, "approve", decision_id="known", by="ann"))
    with pytest.raises(Conflict):
        await place.intentions.intend(ORG, decision_of(stored, "deny", decision_id="known", by="ann"))
    with pytest.raises(NotFound):
        await place.intentions.intend("org_other", decision_of(stored, decision_id="other"))
    forged = decision_of(stored, "deny", decision_id="known", by="temporal-access", verified=False, via="signal")
    await place.changes.record(fence(session_id), "run", 1, (CallDenied(decision=forged),))
    shown = await place.snapshots.approval(ORG, approval)
    assert shown is not None
    counted = [d for d in shown.decisions if d.counted]
    assert shown.status == "denied"
    assert [(d.by, d.verified, d.decision) for d in counted] == [("temporal-access", False, "deny")]
