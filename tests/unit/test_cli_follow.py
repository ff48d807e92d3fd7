"""Following a session: decisions, people who are quicker, and leaving."""

import asyncio
import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.deciding import Answer, ApproveAll, Choice
from conductor_ai.cli.follow import Decided, Ending, Follower, Notice, Shown
from conductor_ai.cli.listening import Words
from conductor_ai.cli.progress import Asked
from conductor_ai.cli.screen import Screen
from conductor_ai.client import AsyncConductor, Forbidden
from conductor_ai.contracts.events import DeltaView, EventView
from conductor_ai.contracts.status import CallState, Phase, Status
from conductor_ai.contracts.views import ApprovalView
from tests.fixtures_cli import (
    KEY,
    NOW,
    SESSION,
    FakeConductor,
    Reply,
    action,
    approval,
    problem,
    serving,
    session,
    step,
)
from tests.fixtures_servers import wait_until

STREAM = f"/v1/agents/{SESSION}/stream"
WAITING = step(1, action(status=CallState.WAITING))
DONE = session(9, step(1, action()), step(2, final="42"), status=Status.COMPLETED, answer="42")


class Recorder:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.events: list[Shown] = []

    def show(self, event: Shown) -> None:
        self.events.append(event)


class Thinker:
    """A person who is asked and does not answer until told what."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.times = 0
        self.answer: asyncio.Queue[Choice] = asyncio.Queue()

    async def choose(self, _approval: ApprovalView) -> Choice:
        self.times += 1
        self.asked.set()
        return await self.answer.get()


async def test_a_session_without_questions_is_followed_to_its_end() -> None:
    """The ending carries the session and the code of its status."""
    with serving(FakeConductor(session(1), DONE)) as fake:
        shown = Recorder()
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, shown, None).follow(SESSION)
    assert ending == Ending(ExitCode.COMPLETED, DONE)
    assert shown.events[-1] == ending


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.COMPLETED, ExitCode.COMPLETED),
        (Status.FAILED, ExitCode.FAILED),
        (Status.CANCELLED, ExitCode.CANCELLED),
    ],
)
async def test_each_end_has_its_code(status: Status, code: ExitCode) -> None:
    """A session that had ended before anybody looked needs no long poll."""
    with serving(FakeConductor(session(1, status=status))) as fake:
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, Recorder(), None).follow(SESSION)
    assert ending.code is code
    assert len(fake.requests) == 1


async def test_an_answer_is_brought_and_the_session_goes_on() -> None:
    """`--yes` decides about exactly what was shown, once, and the end is waited for."""
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        fake.on_decision = lambda _: fake.publish(DONE)
        shown = Recorder()
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, shown, ApproveAll()).follow(SESSION)
    decided = [event for event in shown.events if isinstance(event, Decided)]
    assert ending.code is ExitCode.COMPLETED
    assert [event.choice.answer for event in decided] == [Answer.APPROVE]
    assert len(fake.asked("POST", "/v1/approvals/appr_of_call_1/decision")) == 1


async def test_nobody_here_leaves_the_call_pending() -> None:
    """Without a decider the code is WAITS as soon as nothing else can happen; nothing is decided."""
    busy = step(1, action(status=CallState.WAITING), action("call_2", status=CallState.EXECUTING))
    idle = session(2, step(1, action(status=CallState.WAITING), action("call_2")), pending=[approval()])
    with serving(FakeConductor(session(1, busy, pending=[approval()]), idle)) as fake:
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, Recorder(), None).follow(SESSION)
    assert ending == Ending(ExitCode.WAITS, idle)
    assert not [each for each in fake.requests if each.method == "POST"]


async def test_a_paused_session_is_left_also_by_somebody_who_could_decide() -> None:
    """Nothing that this command can answer is asked, so it does not wait for ever."""
    with serving(FakeConductor(session(1, phase=Phase.PAUSED))) as fake:
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, Recorder(), ApproveAll()).follow(SESSION)
    assert ending.code is ExitCode.WAITS


async def test_quit_leaves_at_once() -> None:
    """A person may leave the question to others."""
    person = Thinker()
    person.answer.put_nowait(Choice(Answer.QUIT))
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, Recorder(), person).follow(SESSION)
    assert ending.code is ExitCode.WAITS
    assert not [each for each in fake.requests if each.method == "POST"]


async def test_somebody_elsewhere_may_be_quicker() -> None:
    """A question whose call is decided elsewhere is withdrawn, and the session is followed on."""
    person, shown = Thinker(), Recorder()
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        async with AsyncConductor(fake.url, KEY) as client:
            following = asyncio.create_task(Follower(client, shown, person).follow(SESSION))
            await asyncio.wait_for(person.asked.wait(), 10)
            fake.publish(DONE)
            ending = await asyncio.wait_for(following, 10)
    assert ending.code is ExitCode.COMPLETED
    assert [event for event in shown.events if isinstance(event, Notice)]
    assert not [each for each in fake.requests if each.method == "POST"]


async def test_news_during_a_question_ask_it_again() -> None:
    """What happens meanwhile is shown, and the question then stands below it once more."""
    person, shown = Thinker(), Recorder()
    other = step(1, action(status=CallState.WAITING), action("call_2"))
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        async with AsyncConductor(fake.url, KEY) as client:
            following = asyncio.create_task(Follower(client, shown, person).follow(SESSION))
            await asyncio.wait_for(person.asked.wait(), 10)
            person.asked.clear()
            fake.publish(session(2, other, pending=[approval()]))
            await asyncio.wait_for(person.asked.wait(), 10)
            fake.on_decision = lambda _: fake.publish(DONE)
            person.answer.put_nowait(Choice(Answer.DENY, "no"))
            ending = await asyncio.wait_for(following, 10)
    assert ending.code is ExitCode.COMPLETED
    assert person.times == 2
    assert len([event for event in shown.events if isinstance(event, Asked)]) == 1


@pytest.mark.parametrize(("status", "code"), [(409, "already_decided"), (409, "approval_expired"), (404, "not_found")])
async def test_a_decision_that_comes_too_late_ends_nothing(status: int, code: str) -> None:
    """The server's sentence is shown, and the session is followed on."""
    shown = Recorder()
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]), DONE)) as fake:
        fake.replies.append(("/v1/approvals/appr_of_call_1/decision", problem(status, code, "Too late.")))
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, shown, ApproveAll()).follow(SESSION)
    assert ending.code is ExitCode.COMPLETED
    assert Notice("Too late.") in shown.events


async def test_other_arguments_are_asked_again() -> None:
    """After 412 the approval is shown with its new digest, and the decision names that one."""
    changed = session(2, WAITING, pending=[approval(sha256="b" * 64)])
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        path = "/v1/approvals/appr_of_call_1/decision"
        fake.replies.append((path, problem(412, "digest_mismatch", "Look again.")))
        fake.on_decision = lambda _: fake.publish(DONE)
        fake.publish(changed)
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, Recorder(), ApproveAll()).follow(SESSION)
    assert ending.code is ExitCode.COMPLETED
    assert [each.body["arguments_sha256"][0] for each in fake.asked("POST", path)] == ["a", "b"]


async def test_a_decision_on_its_way_is_not_made_twice() -> None:
    """After 202 the call still looks pending; it is not asked again."""
    shown = Recorder()
    with serving(
        FakeConductor(session(1, WAITING, pending=[approval()]), session(2, WAITING, pending=[approval()]), DONE)
    ) as fake:
        path = "/v1/approvals/appr_of_call_1/decision"
        fake.replies.append((path, Reply(202, approval().model_dump(mode="json"))))
        async with AsyncConductor(fake.url, KEY) as client:
            await Follower(client, shown, ApproveAll()).follow(SESSION)
    assert [event.taken for event in shown.events if isinstance(event, Decided)] == [False]
    assert len(fake.asked("POST", path)) == 1


async def test_no_right_to_decide_ends_the_following() -> None:
    """Who may not decide is told so, instead of being asked for ever."""
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        fake.replies.append(
            ("/v1/approvals/appr_of_call_1/decision", problem(403, "forbidden", "Not yours to decide."))
        )
        async with AsyncConductor(fake.url, KEY) as client:
            with pytest.raises(Forbidden, match="Not yours"):
                await Follower(client, Recorder(), ApproveAll()).follow(SESSION)


async def test_a_server_that_comes_back_is_followed_on() -> None:
    """A 503 in the middle is waited out."""
    with serving(FakeConductor(session(1), DONE)) as fake:
        path = f"/v1/agents/{SESSION}"
        fake.replies += [
            (path, problem(503, "store_unavailable", "Away.")),
            (path, problem(503, "store_unavailable", "Away.")),
        ]
        async with AsyncConductor(fake.url, KEY) as client:
            ending = await Follower(client, Recorder(), None).follow(SESSION)
    assert ending.code is ExitCode.COMPLETED


def streamed(*messages: tuple[str, EventView | DeltaView]) -> Reply:
    """A stream that says this and breaks off."""
    said = "".join(f"event: {name}\ndata: {data.model_dump_json()}\n\n" for name, data in messages)
    return Reply(200, said.encode(), {"Content-Type": "text/event-stream"})


async def test_words_are_shown_and_a_refused_stream_is_no_loss() -> None:
    """What the model writes is shown as it comes, an attempt that is made again from its beginning, and not what comes after the
    answer. The stream then breaks off and is refused: the session is polled to its end."""
    written = [(1, 1, 0, "It"), (1, 1, 2, " is"), (1, 2, 0, "They"), (1, 2, 4, " are"), (1, 1, 5, " 41")]
    pieces = [
        ("delta", DeltaView(session_id=SESSION, call_no=call, attempt=attempt, offset=offset, text=text))
        for call, attempt, offset, text in written
    ]
    answered = EventView(
        id=f"evt_{'0' * 32}", session_id=SESSION, seq=2, type="model.answered", at=NOW, data={"call_no": 1}
    )
    late = DeltaView(session_id=SESSION, call_no=1, attempt=2, offset=8, text=" late")
    shown = Recorder()
    with serving(FakeConductor(session(1), session(2, step(1, action())))) as fake:
        fake.replies.append((STREAM, streamed(*pieces, ("model.answered", answered), ("delta", late))))

        async with AsyncConductor(fake.url, KEY) as client:
            following = asyncio.create_task(Follower(client, shown, None).follow(SESSION))

            async def refused() -> bool:
                return len(fake.asked("GET", STREAM)) == 2

            await wait_until(refused, "the stream to be asked for again")
            fake.publish(DONE)
            ending = await asyncio.wait_for(following, 10)
    assert ending == Ending(ExitCode.COMPLETED, DONE)
    words = [event.text for event in shown.events if isinstance(event, Words)]
    assert [text for text in words if text] == ["It", "It is", "They", "They are"]
    assert words[-1] == ""
    assert fake.asked("GET", STREAM)[1].headers["last-event-id"] == "2"
    assert len(fake.asked("GET", STREAM)) == 2


async def test_words_wait_for_a_question() -> None:
    """While somebody is asked nothing is written onto the line that they type in."""
    person, shown = Thinker(), Recorder()
    piece = DeltaView(session_id=SESSION, call_no=2, attempt=1, offset=0, text="Now")
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        fake.replies.append((STREAM, streamed(("delta", piece))))
        async with AsyncConductor(fake.url, KEY) as client:
            following = asyncio.create_task(Follower(client, shown, person).follow(SESSION))
            await asyncio.wait_for(person.asked.wait(), 10)

            async def heard() -> bool:
                return len(fake.asked("GET", STREAM)) == 2

            await wait_until(heard, "the stream to be asked for again")
            fake.on_decision = lambda _: fake.publish(DONE)
            person.answer.put_nowait(Choice(Answer.APPROVE))
            await asyncio.wait_for(following, 10)
    assert [event.text for event in shown.events if isinstance(event, Words) and event.text] == []


def test_the_line_that_the_model_writes_on() -> None:
    """On a terminal the end of the words is shown in one line, whatever they are made of, and the line goes when anything else
    comes. Elsewhere they are not shown."""
    for terminal in (True, False):
        out = io.StringIO()
        screen = Screen(Console(file=out, force_terminal=terminal, width=20, _environ={}), link=lambda _: None)
        screen.show(Words("The price of\nthe \x1b[31mharbour is 漢字漢字漢字漢字"))
        written = out.getvalue()
        screen.show(Notice("Something."))
        if not terminal:
            assert written == ""
            assert out.getvalue() == "  Something.\n"
            continue
        assert "\n" not in written
        assert "\x1b[31m" not in written
        assert cell_len(re.sub(r"\x1b\[[0-9;]*m", "", written)) < 20
        assert written.count("字") >= 3
        assert out.getvalue()[len(written) :].startswith("\r\x1b[2K")
