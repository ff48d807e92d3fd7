"""Pause, budget and inbox: whatever comes in whatever order, nothing is lost, read twice, or spent without leave."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_ai.contracts.control import BudgetRequest, ControlKind, Limits, MessageNotice, PauseKind
from conductor_ai.contracts.session import Carried, Tally
from workflows.control import INBOX_MAX, Control, overspent

SPENT = Tally(input_tokens=90, output_tokens=10, cost_usd=Decimal("0.5"))
ENOUGH, LITTLE = Limits(max_total_tokens=1000), Limits(max_total_tokens=50)

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["pause", "resume", "raise", "lower", "check", "message", "read", "carry", "denials"]),
        st.integers(0, 6),
        st.booleans(),
    ),
    max_size=50,
)


@settings(max_examples=300, deadline=None)
@given(OPERATIONS)
def test_any_sequence_is_legal(operations: list[tuple[str, int, bool]]) -> None:
    """Every accepted message is read exactly once, over continue-as-new too; a session over its budget is never let go on."""
    control, accepted, read = Control(), set[str](), list[str]()
    for what, number, flag in operations:
        match what:
            case "pause":
                before = control.pause
                kind = control.ask_to_pause("look", "ann").kind
                assert (kind is ControlKind.UNCHANGED) == (before is not None)
            case "resume":
                over = overspent(control.limits, SPENT)
                answer = control.ask_to_resume(SPENT)
                if over is not None and answer.pause is not None:
                    assert answer.kind is ControlKind.OVER_BUDGET
                else:
                    assert control.pause is None
            case "raise" | "lower":
                limits = ENOUGH if what == "raise" else LITTLE
                control.set_limits(BudgetRequest(limits=limits), SPENT)
                if what == "raise":
                    assert control.pause is None or control.pause.kind is not PauseKind.BUDGET
            case "check":
                control.check_budget(SPENT)
                assert control.pause is not None or overspent(control.limits, SPENT) is None
            case "denials":
                control.repeats_itself("sql_query")
                assert control.pause is not None
            case "message":
                notice = MessageNotice(message_id=f"m{number}", only_if_idle=flag)
                kind = control.receive(notice, idle=False).kind
                known = notice.message_id in accepted
                assert kind is (ControlKind.UNCHANGED if known else ControlKind.BUSY if flag else ControlKind.ACCEPTED)
                if kind is ControlKind.ACCEPTED:
                    accepted.add(notice.message_id)
            case "read":
                given_ = tuple(control.inbox)
                control.read(given_)
                read += given_
            case "carry":
                control = Control.restore(control.carry(Carried()), Limits())
    assert sorted([*read, *control.inbox]) == sorted(accepted)


def test_the_inbox_is_bounded() -> None:
    """A flood of messages is refused and fills neither memory nor the history of the next run."""
    control = Control()
    kinds = [control.receive(MessageNotice(message_id=f"m{n}"), idle=False).kind for n in range(INBOX_MAX + 1)]
    assert kinds == [ControlKind.ACCEPTED] * INBOX_MAX + [ControlKind.FULL]


def test_a_message_that_came_while_others_were_read_stays() -> None:
    """Only what the answered call had in its conversation is done with."""
    control = Control()
    control.receive(MessageNotice(message_id="a"), idle=False)
    sent = tuple(control.inbox)
    control.receive(MessageNotice(message_id="b"), idle=False)
    control.read(sent)
    assert control.inbox == ["b"]


def test_an_interrupt_means_something_only_at_work() -> None:
    """An idle session has nothing to stop: its next model call must not be given up for it."""
    control = Control()
    control.receive(MessageNotice(message_id="a", interrupt=True), idle=True)
    assert not control.interrupted
    control.receive(MessageNotice(message_id="b", interrupt=True), idle=False)
    assert control.interrupted


def test_sentences_of_a_budget() -> None:
    """They say how much of how much, in plain figures."""
    assert overspent(Limits(max_cost_usd=Decimal("0.50")), SPENT) == "It has spent $0.5 of its limit of $0.5."
    assert overspent(Limits(max_total_tokens=100), SPENT) == "It has used 100 tokens of its limit of 100."
    assert overspent(Limits(max_cost_usd=Decimal("0.51"), max_total_tokens=101), SPENT) is None


def test_a_message_that_was_taken_back_is_news_when_it_comes_again() -> None:
    """What the store has is known before it is announced; what it has no more is not."""
    control = Control()
    control.take("a")
    assert control.receive(MessageNotice(message_id="a"), idle=False).kind is ControlKind.UNCHANGED
    assert control.inbox == ["a"]
    control.forget(("a",))
    assert control.inbox == []
    assert control.receive(MessageNotice(message_id="a"), idle=False).kind is ControlKind.ACCEPTED


def test_a_message_that_is_sent_again_while_it_is_looked_for_stays() -> None:
    """The call found it taken back, but by now it is in the store again: it is read in its turn, and forgotten if it is not."""
    control = Control()
    for message in ("a", "b"):
        control.receive(MessageNotice(message_id=message), idle=False)
    sent = control.to_read()
    control.receive(MessageNotice(message_id="a"), idle=False)
    control.looked_for(sent, gone=("a", "b"))
    assert (control.inbox, list(control.seen)) == (["a"], ["a"])
    control.looked_for(control.to_read(), gone=("a",))
    assert (control.inbox, list(control.seen)) == ([], [])
