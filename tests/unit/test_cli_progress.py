"""What a follower is told of a session, snapshot by snapshot."""

import pytest

from conductor_ai.cli.progress import Asked, Begun, CallSettled, Degraded, Progress, Retrying, StepDone, StepTaken
from conductor_ai.cli.progress import only_people_can_move as stuck
from conductor_ai.contracts.status import CallState, Phase, Status
from conductor_ai.contracts.views import RetryView, SessionView
from tests.fixtures_cli import NOW, action, approval, session, step


def kinds(events: tuple[object, ...]) -> list[type[object]]:
    """The kinds of events, in order."""
    return [type(event) for event in events]


def test_each_thing_is_told_once_and_in_order() -> None:
    """A step is told when the model has answered, its call when it ends, and nothing twice."""
    progress = Progress()
    running = step(1, action(status=CallState.EXECUTING))
    assert kinds(progress.update(session(1))) == [Begun]
    assert kinds(progress.update(session(2, running))) == [StepTaken]
    assert kinds(progress.update(session(3, running))) == []
    assert kinds(progress.update(session(4, step(1, action())))) == [CallSettled, StepDone]
    assert kinds(progress.update(session(5, step(1, action())))) == []


def test_parallel_calls_end_one_by_one() -> None:
    """A step with two calls is done only when both are, and each of them is told as it ends."""
    progress = Progress()
    progress.update(session(1))
    first, second = action("call_1"), action("call_2", status=CallState.EXECUTING)
    assert kinds(progress.update(session(2, step(1, first, second)))) == [StepTaken, CallSettled]
    assert progress.complete == 0
    assert kinds(progress.update(session(3, step(1, first, action("call_2"))))) == [CallSettled, StepDone]
    assert progress.complete == 1


def test_everything_at_once_is_told_like_one_after_the_other() -> None:
    """Whoever comes late gets the whole story in the order in which it happened."""
    events = Progress().update(session(9, step(1, action()), step(2, action("call_2")), step(3, final="42")))
    assert kinds(events) == [
        Begun, StepTaken, CallSettled, StepDone, StepTaken, CallSettled, StepDone, StepTaken, StepDone,
    ]  # fmt: skip


def test_a_step_without_calls_is_done_when_it_is_known_what_it_was() -> None:
    """The answer is told whole, with the session's end; what was no answer, when the next step comes."""
    progress = Progress()
    assert kinds(progress.update(session(1, step(1)))) == [Begun, StepTaken]
    assert kinds(progress.update(session(2, step(1), step(2)))) == [StepDone, StepTaken]
    assert progress.complete == 1
    (done,) = progress.update(session(3, step(1), step(2, final="42"), status=Status.COMPLETED))
    assert isinstance(done, StepDone)
    assert done.step.final_answer == "42"


def test_steps_that_are_complete_may_be_left_out() -> None:
    """The server is asked only for later steps; what it leaves out is not told again, nor missed."""
    progress = Progress()
    progress.update(session(1, step(1, action()), step(2, action("call_2"))))
    assert progress.complete == 2
    later = session(2, step(3, action("call_3"))).model_copy(update={"step_count": 3})
    assert kinds(progress.update(later)) == [StepTaken, CallSettled, StepDone]
    assert progress.complete == 3


def test_a_reset_is_told_as_new_steps() -> None:
    """A step that was taken back and done again with another call is another step, and complete counts back."""
    progress = Progress()
    progress.update(session(1, step(1, action()), step(2, action("call_2"))))
    assert kinds(progress.update(session(2, step(1, action("call_9"))))) == [StepTaken, CallSettled, StepDone]
    assert progress.complete == 1


def test_an_outcome_that_becomes_known_later_is_told_again() -> None:
    """`outcome_unknown` is the one end state that may be settled."""
    progress = Progress()
    progress.update(session(1, step(1, action(status=CallState.OUTCOME_UNKNOWN))))
    assert kinds(progress.update(session(2, step(1, action())))) == [CallSettled]


def test_an_approval_is_told_for_each_set_of_arguments() -> None:
    """The same call with another digest is another question; the same digest is not told again."""
    progress = Progress()
    progress.update(session(1))
    assert kinds(progress.update(session(2, pending=[approval()]))) == [Asked]
    assert kinds(progress.update(session(3, pending=[approval()]))) == []
    assert kinds(progress.update(session(4, pending=[approval(sha256="b" * 64)]))) == [Asked]


def test_retries_and_absence_of_the_database_are_told_when_they_begin() -> None:
    """Each failed attempt is told once, and so is each time that the answer comes from a copy."""
    progress = Progress()
    progress.update(session(1))
    again = RetryView(what="model", attempt=1, next_at=NOW, reason="overloaded")
    assert kinds(progress.update(session(2, retry=again))) == [Retrying]
    assert kinds(progress.update(session(3, retry=again))) == []
    assert kinds(progress.update(session(4, degraded=True))) == [Degraded]
    assert kinds(progress.update(session(5, degraded=True))) == []
    assert kinds(progress.update(session(6))) == []
    assert kinds(progress.update(session(7, degraded=True))) == [Degraded]


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (session(1), False),
        (session(1, status=Status.COMPLETED), False),
        (session(1, step(1, action(status=CallState.WAITING)), pending=[approval()]), True),
        (session(1, step(1, action(status=CallState.WAITING), action("c", status=CallState.EXECUTING)), pending=[approval()]), False),
        (session(1, step(1, action(status=CallState.WAITING), action("c", status=CallState.READY)), pending=[approval()]), False),
        (session(1, phase=Phase.PAUSED), True),
        (session(1, phase=Phase.AWAITING_INPUT), True),
        (session(1, phase=Phase.RETRYING), False),
    ],
)  # fmt: skip
def test_only_people_can_move(view: SessionView, expected: bool) -> None:
    """A command without a person leaves only when nothing else can happen, so that no result of a parallel call is missed."""
    assert stuck(view) is expected
