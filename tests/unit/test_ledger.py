"""The ledger of waiting calls: whatever comes in whatever order, the first decision wins and none that was told is lost."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_ai.contracts.decisions import TEMPORAL_ACCESS, Decision, DecisionRequest, VerdictKind
from conductor_ai.contracts.session import Carried
from workflows.pending import DECIDED_MAX, DENIALS_MAX, EARLY_MAX, Ledger, Waiting

START = datetime(2026, 1, 1, tzinfo=UTC)
TTL = timedelta(minutes=10)


def sha(call_id: str) -> str:
    """The digest of a call of these tests."""
    return f"sha of {call_id}"


def request(call_id: str, decision: str = "approve", **more: object) -> DecisionRequest:
    """A decision from the API."""
    given_ = {"call_id": call_id, "decision": decision, "arguments_sha256": sha(call_id), "by": "ann", "via": "api"}
    return DecisionRequest.model_validate({**given_, **more})


def waiting(call_id: str, at: datetime = START) -> Waiting:
    """A call that waits for ten minutes."""
    return Waiting(call_id, "sql_query", sha(call_id), at + TTL)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["register", "approve", "deny", "wrong digest", "take", "carry", "forget"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["api", "signal"]),
        st.integers(0, 200),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(OPERATIONS, st.booleans())
def test_any_sequence_is_legal(operations: list[tuple[str, str, str, int]], allow_signals: bool) -> None:
    """The first decision about a call wins for ever, only for its digest, only in time, and `accepted` is kept."""
    ledger, now = Ledger(allow_signals=allow_signals), START
    told: dict[str, Decision] = {}
    registered: dict[str, Waiting] = {}
    for what, call_id, via, seconds in operations:
        now += timedelta(seconds=seconds)
        match what:
            case "register" if call_id not in registered:
                registered[call_id] = waiting(call_id, now)
                ledger.register(registered[call_id])
            case "take":
                if (decision := ledger.decision((call_id, 1))) is not None:
                    assert told.setdefault(call_id, decision) == decision
                ledger.expire((call_id, 1))
            case "forget":
                ledger.forget((call_id, 1))
            case "carry":
                if not ledger.waiting:
                    ledger = Ledger.restore(ledger.carry(Carried()), allow_signals=allow_signals)
            case "approve" | "deny" | "wrong digest":
                kind = "deny" if what == "deny" else "approve"
                digest = "another" if what == "wrong digest" else sha(call_id)
                verdict = ledger.decide(request(call_id, kind, via=via, arguments_sha256=digest), now)
                if via == "signal" and not allow_signals:
                    assert verdict.kind is VerdictKind.SIGNALS_REFUSED
                    continue
                if verdict.kind is VerdictKind.ACCEPTED:
                    assert call_id not in told
                    assert verdict.decision is not None
                    told[call_id] = verdict.decision
                    assert now < registered[call_id].expires_at
                if verdict.kind in (VerdictKind.SAME_AGAIN, VerdictKind.ALREADY_DECIDED):
                    assert verdict.decision is not None
                    assert told.setdefault(call_id, verdict.decision) == verdict.decision
        for (decided_id, _), decision in ledger.decided.items():
            assert decision.arguments_sha256 == sha(decided_id)
            assert told.setdefault(decided_id, decision) == decision
            assert decision.at < registered[decided_id].expires_at
            assert not decision.verified, "only the store can know who it was"
        assert not set(ledger.decided) & set(ledger.waiting)
        for call_id_, decision in told.items():
            assert ledger.decision((call_id_, 1)) == decision


@given(st.integers(DECIDED_MAX, DECIDED_MAX + 60))
@settings(max_examples=5, deadline=None)
def test_no_accepted_decision_is_forgotten_before_it_is_taken(count: int) -> None:
    """More parallel calls than the ledger remembers: every one that was told `accepted` finds its decision."""
    ledger = Ledger()
    names = [f"call {number}" for number in range(count)]
    for name in names:
        ledger.register(waiting(name))
    for name in names:
        assert ledger.decide(request(name), START).kind is VerdictKind.ACCEPTED
    for name in names:
        assert ledger.decision((name, 1)) is not None
        ledger.expire((name, 1))
    ledger.register(waiting("last"))
    ledger.decide(request("last"), START)
    assert len(ledger.decided) <= DECIDED_MAX + 1


def test_a_decision_before_the_call_counts_by_its_digest() -> None:
    """A reset replays signals before the call: the right digest counts, an earlier wrong one does not stand in its way."""
    ledger = Ledger()
    wrong = request("a", "deny", arguments_sha256="another")
    assert ledger.decide(wrong, START).kind is VerdictKind.UNKNOWN_CALL
    assert ledger.decide(request("a", "approve"), START).kind is VerdictKind.UNKNOWN_CALL
    assert ledger.decide(request("a", "deny"), START).kind is VerdictKind.UNKNOWN_CALL
    ledger.register(waiting("a"))
    decision = ledger.decision(("a", 1))
    assert decision is not None
    assert decision.decision == "approve"


def test_an_early_decision_does_not_outlive_the_expiry() -> None:
    """A decision that came before the call counts only if it came in its time."""
    ledger = Ledger()
    ledger.decide(request("a"), START + TTL)
    ledger.register(waiting("a"))
    assert ledger.decision(("a", 1)) is None


def test_early_decisions_are_bounded() -> None:
    """A flood of decisions about calls that never were fills neither memory nor the history of the next run."""
    ledger = Ledger()
    for number in range(EARLY_MAX * 3):
        ledger.decide(request(f"no such call {number}"), START)
    assert len(ledger.early) == EARLY_MAX


def test_late_is_expired_to_the_instant() -> None:
    """At the expiry itself it is too late, before the timer was handled and after; a moment before it is in time."""
    ledger = Ledger()
    for name in ("a", "b"):
        ledger.register(waiting(name))
    assert ledger.decide(request("a"), START + TTL).kind is VerdictKind.EXPIRED
    assert ledger.decide(request("b"), START + TTL - timedelta(microseconds=1)).kind is VerdictKind.ACCEPTED
    ledger.expire(("a", 1))
    assert ledger.decide(request("a"), START + TTL).kind is VerdictKind.EXPIRED


def test_the_same_again_and_the_contrary() -> None:
    """The same decision again is told as such, by whom ever; a contrary one learns who was first."""
    ledger = Ledger()
    ledger.register(waiting("a"))
    assert ledger.decide(request("a", "deny", by="ann"), START).kind is VerdictKind.ACCEPTED
    again = ledger.decide(request("a", "deny", by="bob"), START)
    contrary = ledger.decide(request("a", "approve", by="bob"), START + TTL * 2)
    assert (again.kind, contrary.kind) == (VerdictKind.SAME_AGAIN, VerdictKind.ALREADY_DECIDED)
    assert contrary.decision is not None
    assert contrary.decision.by == "ann"


def test_a_signal_cannot_say_who_sent_it() -> None:
    """A signal that names a person is recorded as from anybody with access to Temporal."""
    ledger = Ledger()
    ledger.register(waiting("a"))
    verdict = ledger.decide(request("a", via="signal", by="the boss"), START)
    assert verdict.decision is not None
    assert (verdict.decision.by, verdict.decision.verified) == (TEMPORAL_ACCESS, False)


def test_what_the_store_cannot_hold_is_replaced_on_entry() -> None:
    """U+0000 in an id, a name or a comment would make the write of an accepted decision fail for ever."""
    ledger = Ledger()
    ledger.register(waiting("a"))
    verdict = ledger.decide(request("a", decision_id="d\0", by="an\0n", comment="no\0"), START)
    assert verdict.decision is not None
    assert "\0" not in f"{verdict.decision.decision_id}{verdict.decision.by}{verdict.decision.comment}"


@given(
    st.lists(st.tuples(st.sampled_from(["approve", "deny"]), st.integers(1, 3), st.integers(1, 3)), max_size=20),
)
@settings(max_examples=200, deadline=None)
def test_a_decision_counts_for_its_round_alone(steps: list[tuple[str, int, int]]) -> None:
    """The same digest, asked again: what was decided about one time never says anything about another."""
    ledger, told = Ledger(), dict[int, str]()
    for kind, asked_round, decided_round in steps:
        if ("a", asked_round) not in ledger.waiting and asked_round not in told:
            ledger.register(Waiting("a", "sql_query", sha("a"), START + TTL, round=asked_round))
            if (early := ledger.decision(("a", asked_round))) is not None:
                told[asked_round] = early.decision
        verdict = ledger.decide(request("a", kind, round=decided_round), START)
        if verdict.kind is VerdictKind.ACCEPTED:
            assert decided_round not in told
            told[decided_round] = kind
    for round_, decision in told.items():
        found = ledger.decision(("a", round_))
        assert found is not None
        assert (found.decision, found.round) == (decision, round_)
    assert {round_ for _, round_ in ledger.decided} == set(told)


def test_edits_and_answers_need_their_text() -> None:
    """Without a digest of what comes with it, it is no decision; another text is another decision."""
    ledger = Ledger()
    ledger.register(waiting("a"))
    assert ledger.decide(request("a", "edit"), START).kind is VerdictKind.NEEDS_API
    assert ledger.decide(request("a", "answer", content_sha256="1" * 64), START).kind is VerdictKind.ACCEPTED
    assert ledger.decide(request("a", "answer", content_sha256="1" * 64), START).kind is VerdictKind.SAME_AGAIN
    assert ledger.decide(request("a", "answer", content_sha256="2" * 64), START).kind is VerdictKind.ALREADY_DECIDED


def test_denials_are_remembered_and_bounded() -> None:
    """By digest, over continue-as-new; a flood of different calls forgets the oldest."""
    ledger = Ledger()
    assert [ledger.count_denial("x"), ledger.count_denial("x")] == [1, 2]
    ledger = Ledger.restore(ledger.carry(Carried()), allow_signals=True)
    assert ledger.was_denied("x")
    for number in range(DENIALS_MAX):
        ledger.count_denial(f"call {number}")
    assert not ledger.was_denied("x")
    assert len(ledger.denials) == DENIALS_MAX
