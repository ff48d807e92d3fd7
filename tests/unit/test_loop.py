"""The loop's decisions: any sequence of replies ends in a legal end, and no call is lost or given out twice."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_ai.contracts.models import Stop
from conductor_ai.contracts.session import CallRef, Carried, ModelFailed, ModelOutcome, SessionInput, Tally
from conductor_ai.contracts.status import StopReason
from conductor_ai.errors import Code
from workflows import loop
from workflows.loop import PAUSES_MAX, REPAIRS_MAX, AskModel, End, RunCalls


def session(max_steps: int = 5, continue_as_new_steps: int = 100) -> SessionInput:
    """A session's input."""
    return SessionInput(
        session_id="sess_1",
        org_id="org",
        model="demo",
        tools=(),
        max_steps=max_steps,
        continue_as_new_steps=continue_as_new_steps,
    )


def outcome(stop: Stop, calls: int = 0, *, cut: bool = False, prefix: str = "") -> ModelOutcome:
    """A reply, by reference."""
    refs = tuple(CallRef(call_id=f"{prefix}call {number}", tool="web_fetch") for number in range(calls))
    tally = Tally(input_tokens=1, output_tokens=1, cost_usd=Decimal("0.5"))
    return ModelOutcome(stop=stop, calls=refs, cut_calls=cut, tally=tally)


REPLIES = st.lists(
    st.builds(
        outcome,
        st.sampled_from(list(Stop)),
        st.integers(0, 3),
        cut=st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(REPLIES, st.integers(1, 6))
def test_any_replies_end_legally(replies: list[ModelOutcome], max_steps: int) -> None:
    """Call numbers only grow, steps never exceed the limit, repairs are bounded, calls run exactly for complete replies."""
    given_, state = session(max_steps), Carried()
    script = iter(replies)
    numbers: list[int] = []
    ran = 0
    in_a_row = 0
    move: AskModel | RunCalls | End = loop.before_model(state, given_)
    while isinstance(move, AskModel):
        numbers.append(move.call_no)
        assert move.step == state.steps + 1 <= max_steps
        state = loop.scheduled(state, move)
        reply = next(script, None) or outcome(Stop.END)
        state, move = loop.after_model(state, reply)
        if isinstance(move, RunCalls):
            assert move.calls == reply.calls
            assert reply.stop in (Stop.END, Stop.TOOL_CALLS)
            ran += 1
            in_a_row = 0
            move = loop.before_model(state, given_)
        elif isinstance(move, AskModel):
            in_a_row += 1
            assert in_a_row <= max(REPAIRS_MAX, PAUSES_MAX) + REPAIRS_MAX
            assert reply.stop in (Stop.MAX_TOKENS, Stop.MALFORMED, Stop.PAUSE, Stop.INVALID_OUTPUT)
    assert isinstance(move, End)
    assert numbers == list(range(1, len(numbers) + 1))
    assert state.next_call_no == len(numbers) + 1
    assert state.tally.cost_usd == Decimal("0.5") * len(numbers)
    assert ran <= state.steps <= max_steps
    assert (move.stop_reason is StopReason.FINAL_ANSWER) == (move.error_code is None)
    if move.stop_reason is StopReason.MAX_STEPS:
        assert state.steps == max_steps


def test_a_final_answer_needs_no_calls() -> None:
    """A reply without calls is final, also when it was cut in mid-text; one with calls is not, whatever it stops with."""
    state = Carried()
    for stop in (Stop.END, Stop.TOOL_CALLS, Stop.MAX_TOKENS):
        _, move = loop.after_model(state, outcome(stop))
        assert move == End(StopReason.FINAL_ANSWER)
    _, move = loop.after_model(state, outcome(Stop.END, 1))
    assert isinstance(move, RunCalls)


def test_a_cut_call_is_repaired_once() -> None:
    """Half of a call is never run: once more, then the session fails with a code of its own."""
    state, move = loop.after_model(Carried(), outcome(Stop.MAX_TOKENS, cut=True))
    assert isinstance(move, AskModel)
    _, move = loop.after_model(state, outcome(Stop.MAX_TOKENS, cut=True))
    assert isinstance(move, End)
    assert move.error_code == Code.MODEL_OUTPUT_LIMIT


def test_an_output_that_does_not_fit_is_repaired_once() -> None:
    """Also right after a reply that could not be read: the model is told its mistakes before the session fails."""
    state, _ = loop.after_model(Carried(), outcome(Stop.MALFORMED))
    state, move = loop.after_model(state, outcome(Stop.INVALID_OUTPUT))
    assert isinstance(move, AskModel)
    _, move = loop.after_model(state, outcome(Stop.INVALID_OUTPUT))
    assert isinstance(move, End)
    assert move.error_code == Code.OUTPUT_INVALID


def test_a_good_reply_resets_the_repairs() -> None:
    """Repairs count in a row, not in all."""
    state, _ = loop.after_model(Carried(), outcome(Stop.MALFORMED))
    state, _ = loop.after_model(state, outcome(Stop.TOOL_CALLS, 1))
    _, move = loop.after_model(state, outcome(Stop.MALFORMED))
    assert isinstance(move, AskModel)


def test_continue_as_new_counts_this_runs_steps() -> None:
    """Steps of earlier runs do not count, and Temporal's own suggestion is always followed."""
    given_, state = session(continue_as_new_steps=3), Carried(steps=7)
    assert not loop.must_continue_as_new(state, given_, steps_before=5, suggested=False)
    assert loop.must_continue_as_new(state, given_, steps_before=4, suggested=False)
    assert loop.must_continue_as_new(state, given_, steps_before=7, suggested=True)


# Fallbacks


def failed(code: str | None, reason: str = "") -> ModelFailed:
    """A call that failed for good and was billed a little."""
    return ModelFailed(code=code, reason=reason, tally=Tally(input_tokens=1, cost_usd=Decimal("0.1")))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                failed(Code.MODEL_UNAVAILABLE, "overloaded"),
                failed(Code.MODEL_REJECTED_REQUEST, "unknown_model"),
                failed(Code.UNKNOWN_MODEL),
                failed(Code.MODEL_AUTHENTICATION, "authentication"),
                failed(Code.MODEL_REJECTED_REQUEST, "bad_request"),
                failed(None),
            ]
        ),
        max_size=8,
    ),
    st.integers(0, 5),
)
def test_each_model_is_tried_once_and_in_order(failures: list[ModelFailed], fallbacks: int) -> None:
    """A model that cannot be had is given up for good; any other failure stands; each call has a number of its own."""
    given_ = session().model_copy(update={"fallback_models": tuple(f"model {n}" for n in range(fallbacks))})
    state, asked = Carried(), [given_.model]
    ask = AskModel(state.next_call_no, 1)
    for number, failure in enumerate(failures, 1):
        state = loop.scheduled(state, ask)
        state, again = loop.after_failure(state, given_, ask, failure)
        assert state.tally.cost_usd == Decimal("0.1") * number
        stands = failure.code in (None, Code.MODEL_AUTHENTICATION) or failure.reason == "bad_request"
        assert (again is None) == (stands or len(asked) == 1 + fallbacks)
        if again is None:
            break
        assert (again.call_no, again.step) == (ask.call_no + 1, 1)
        assert again.fell_back is not None
        assert again.fell_back.model == asked[-1]
        asked.append(loop.model_of(given_, state))
        ask = again
    assert tuple(asked) == (given_.model, *given_.fallback_models)[: len(asked)]
    assert state.steps == 0


# Compaction

FULL = 0.9


def compacting(**more: object) -> SessionInput:
    """A session that is summarised at four fifths of its window."""
    return session().model_copy(update={"compact_at": 0.8, "max_steps": 50, **more})


def summary(stop: Stop = Stop.END, *, usable: bool = True) -> ModelOutcome:
    """The outcome of a call that was to summarise."""
    return outcome(stop).model_copy(update={"summarised": usable})


def filled(stop: Stop, calls: int, share: float) -> ModelOutcome:
    """An answer that took so much of the window."""
    return outcome(stop, calls).model_copy(update={"context_share": share})


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 6))
def test_at_most_one_summary_before_a_step(data: st.DataObject, max_steps: int) -> None:
    """Whatever comes back: numbers only grow, nothing is lost of the tally, and a summary is followed by an answer to the
    same step or by the end; without the setting there is none."""
    given_ = compacting(max_steps=max_steps, compact_at=data.draw(st.sampled_from([0.8, None])))
    state, asked, summaries = Carried(), 0, 0
    move: AskModel | RunCalls | End = loop.before_model(state, given_)
    while isinstance(move, AskModel):
        asked += 1
        assert (move.call_no, move.step) == (asked, state.steps + 1)
        state = loop.scheduled(state, move)
        stop = data.draw(
            st.sampled_from([Stop.TOOL_CALLS, Stop.TOOL_CALLS, Stop.CONTEXT_EXCEEDED, Stop.REFUSAL, Stop.END])
        )
        if move.compact is not None:
            assert given_.compact_at is not None
            assert not state.compacted
            assert state.steps > 0
            assert move.compact == state.shrinks
            summaries += 1
            reply = summary(stop, usable=stop in (Stop.END, Stop.TOOL_CALLS))
        else:
            summaries = 0
            reply = filled(stop, 1 if stop is Stop.TOOL_CALLS else 0, data.draw(st.sampled_from([0.0, 0.5, FULL])))
        assert summaries <= 1 + loop.SHRINKS_MAX
        state, move = loop.after_answer(state, given_, reply)
        if isinstance(move, RunCalls):
            move = loop.before_model(state, given_)
    assert isinstance(move, End)
    assert state.tally.input_tokens == asked
    assert state.steps <= max_steps


def test_a_full_window_is_summarised_before_the_next_step() -> None:
    """Not in the middle of one, and not before there is a step; afterwards the same step is asked."""
    state, move = loop.after_answer(Carried(), compacting(), filled(Stop.TOOL_CALLS, 1, FULL))
    assert isinstance(move, RunCalls)
    ask = loop.before_model(state, compacting())
    assert isinstance(ask, AskModel)
    assert ask.compact == 0
    assert loop.before_model(state, compacting(compact_at=None)) == AskModel(state.next_call_no, 2)
    state, again = loop.after_answer(loop.scheduled(state, ask), compacting(), summary())
    assert again == AskModel(ask.call_no + 1, 2)


def test_context_exceeded_right_after_a_summary_is_final() -> None:
    """As a stop and as a failure; the first time both lead to a summary, which itself may be shrunk four times."""
    state = Carried(steps=3, next_call_no=4)
    for fails in (False, True):
        ask = AskModel(4, 4)
        said = loop.scheduled(state, ask)
        exceeded = failed(Code.CONTEXT_EXCEEDED, "context_exceeded")
        move: object
        if fails:
            said, move = loop.after_failure(said, compacting(), ask, exceeded)
        else:
            said, move = loop.after_answer(said, compacting(), outcome(Stop.CONTEXT_EXCEEDED))
        for halved in range(loop.SHRINKS_MAX + 1):
            assert isinstance(move, AskModel)
            assert move.compact == halved
            said, move = loop.after_failure(loop.scheduled(said, move), compacting(), move, exceeded)
        assert move is None
        compacted = said.model_copy(update={"compacted": True})
        assert loop.after_failure(compacted, compacting(), ask, exceeded)[1] is None
        assert isinstance(loop.after_answer(compacted, compacting(), outcome(Stop.CONTEXT_EXCEEDED))[1], End)


def test_what_the_caller_gave_is_not_summarised() -> None:
    """A first message that does not fit is the caller's to shorten."""
    ask, exceeded = AskModel(1, 1), failed(Code.CONTEXT_EXCEEDED)
    assert loop.after_failure(Carried(), compacting(), ask, exceeded)[1] is None
    assert isinstance(loop.after_answer(Carried(), compacting(), outcome(Stop.CONTEXT_EXCEEDED))[1], End)


def test_a_summary_falls_back_too() -> None:
    """A model that cannot be had is given up in a summary as in a step: the next one summarises."""
    given_ = compacting(fallback_models=("other",))
    ask = AskModel(4, 4, compact=1)
    _, again = loop.after_failure(
        Carried(steps=3, shrinks=1), given_, ask, failed(Code.MODEL_UNAVAILABLE, "overloaded")
    )
    assert again is not None
    assert (again.compact, again.step) == (1, 4)


def test_which_ends_a_message_puts_off() -> None:
    """An answer or a refusal with a step left; in a chat also an answer or spent steps with none. Nothing else."""
    run, early, late = session(max_steps=2), Carried(steps=1), Carried(steps=2)
    chat = run.model_copy(update={"mode": "chat"})
    found = {
        reason: [loop.reads_on(state, kind, End(reason)) for kind in (run, chat) for state in (early, late)]
        for reason in StopReason
    }
    answered, never = [True, False, True, True], [False] * 4
    assert found == {
        **dict.fromkeys(StopReason, never),
        StopReason.FINAL_ANSWER: answered,
        StopReason.REFUSAL: answered,
        StopReason.MAX_STEPS: [False, False, True, True],
    }
