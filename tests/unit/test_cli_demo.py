"""The demo: that its task makes the demo model do what the demo explains, and what counts as gone wrong."""

import pytest

from activities.providers.demo_policy import next_move
from conductor_ai.cli.deciding import Answer, Choice
from conductor_ai.cli.demo import DENIAL, NEEDED, OPTIONAL, DemoDecider, scripted, shortfalls, task
from conductor_ai.contracts.models import AssistantTurn, ResultTurn, Turn, UserTurn
from conductor_ai.contracts.status import CallState, Status
from conductor_ai.contracts.views import ApprovalView, SessionView
from tests.fixtures_cli import action, approval, session, step

ALL = ("web_fetch", OPTIONAL, "sql_query")
ANSWERS = {"call_3": Answer.APPROVE, "call_4": Answer.DENY}


def played(tools: tuple[str, ...]) -> list[tuple[str, str]]:
    """The calls that the demo model makes of the demo's task: tool, and the statement if it is one. Changes are denied."""
    turns: list[Turn] = [UserTurn(text=task("http://127.0.0.1:4321/"))]
    calls = []
    while (call := (move := next_move(tuple(turns), frozenset(tools))).call) is not None:
        statement = str((call.arguments or {}).get("query", ""))
        calls.append((call.tool, statement))
        ok = not statement or scripted(approval(query=statement)).answer is Answer.APPROVE
        text = "a result" if ok else f"A person denied it: {DENIAL}"
        turns += [
            AssistantTurn(text=move.text, calls=(call,)),
            ResultTurn(provider_id=call.provider_id, tool=call.tool, text=text, ok=ok),
        ]
    return calls


@pytest.mark.parametrize("tools", [ALL, NEEDED])
def test_the_task_makes_the_demo_model_show_everything(tools: tuple[str, ...]) -> None:
    """Each tool once, the shop twice: a query that the demo approves, then a change that it denies and that is not repeated."""
    calls = played(tools)
    answers = [scripted(approval(query=statement)).answer for tool, statement in calls if tool == "sql_query"]
    assert [tool for tool, _ in calls] == [*(tool for tool in ALL if tool in tools), "sql_query"]
    assert answers == [Answer.APPROVE, Answer.DENY]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT 1", Answer.APPROVE),
        ("  select\t1", Answer.DENY),
        ("UPDATE products SET x = 1 WHERE id = 1", Answer.DENY),
        ("WITH gone AS (DELETE FROM products WHERE id = 1) SELECT 1", Answer.DENY),
        ("", Answer.DENY),
    ],
)
def test_the_demo_approves_what_plainly_reads(query: str, expected: Answer) -> None:
    """Anything but its own kind of query is denied."""
    assert scripted(approval(query=query)).answer is expected


def test_another_tool_is_denied() -> None:
    """The demo decides about sql_query alone."""
    assert scripted(approval().model_copy(update={"tool": "drop_everything"})).answer is Answer.DENY


async def test_answers_are_remembered_by_call() -> None:
    """With `--ask` a person decides, and what they said is what the outcome is compared with."""

    class Person:
        async def choose(self, _approval: ApprovalView) -> Choice:
            return Choice(Answer.DENY, "no")

    alone, asked = DemoDecider(None), DemoDecider(Person())
    await alone.choose(approval("call_3"))
    await asked.choose(approval("call_3"))
    assert (alone.answers, asked.answers) == ({"call_3": Answer.APPROVE}, {"call_3": Answer.DENY})


def ran(
    status: Status = Status.COMPLETED,
    code: CallState = CallState.SUCCEEDED,
    read: CallState = CallState.SUCCEEDED,
    write: CallState = CallState.DENIED,
) -> SessionView:
    """How the demo's session went."""
    return session(
        9,
        step(1, action("call_1", "web_fetch")),
        step(2, action("call_2", OPTIONAL, code)),
        step(3, action("call_3", "sql_query", read)),
        step(4, action("call_4", "sql_query", write)),
        status=status,
    )


def test_the_demo_as_it_should_be_has_no_shortfall() -> None:
    """Everything called, everything as decided."""
    assert shortfalls(ran(), ALL, ANSWERS, asked=False) == []


@pytest.mark.parametrize(
    ("view", "answers", "said"),
    [
        (ran(status=Status.FAILED), ANSWERS, "The session is failed"),
        (ran(code=CallState.FAILED), ANSWERS, "A call of code_run is failed and not succeeded"),
        (ran(read=CallState.FAILED), ANSWERS, "A call of sql_query is failed and not succeeded"),
        (ran(write=CallState.SUCCEEDED), ANSWERS, "A call of sql_query is succeeded and not denied"),
        (ran(), {"call_4": Answer.DENY}, "Nothing was there to approve"),
        (session(9, status=Status.COMPLETED), ANSWERS, "web_fetch was never called"),
    ],
)
def test_each_way_to_go_wrong_is_told(view: SessionView, answers: dict[str, Answer], said: str) -> None:
    """A demo that shows something else than it explains does not exit with 0."""
    assert any(said in each for each in shortfalls(view, ALL, answers, asked=False))


def test_a_person_may_decide_anything() -> None:
    """With `--ask` two approvals are as good as an approval and a denial, if the calls went accordingly."""
    both = {"call_3": Answer.APPROVE, "call_4": Answer.APPROVE}
    assert shortfalls(ran(write=CallState.SUCCEEDED), ALL, both, asked=True) == []
    assert shortfalls(ran(), ALL, both, asked=True)
