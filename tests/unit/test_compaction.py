"""Summaries: what is cut to fit, and that no turn is lost or doubled at the seam."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from activities.providers.demo_script import parse, remaining
from conductor_ai.compaction import LAST_MESSAGE, LEAST_PART, beginning, fitted, record, usable
from conductor_ai.contracts.models import AssistantTurn, ModelReply, ProposedCall, ResultTurn, Stop, Turn, UserTurn
from conductor_ai.stores.transcript import Prefix, extended

PARTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=400), min_size=1, max_size=30)


def size(parts: list[str]) -> int:
    return sum(len(part.encode()) for part in parts)


@settings(max_examples=200, deadline=None)
@given(PARTS, st.integers(2 * LEAST_PART, 6_000))
def test_the_record_is_cut_to_what_fits(parts: list[str], room: int) -> None:
    """Never over the room; what fits is left alone; the first and the last part stay, and short ones are whole."""
    found = fitted(parts, room)
    assert size(found) <= room
    if size(parts) <= room:
        assert found == parts
    elif len(parts) <= room // LEAST_PART:
        assert len(found) == len(parts)
        cut = [len(after.encode()) for before, after in zip(parts, found, strict=True) if before != after]
        assert all(before == after for before, after in zip(parts, found, strict=True) if len(before) * 4 < min(cut))


def test_many_turns_lose_those_in_the_middle() -> None:
    """A thousand turns in little room: the task and the newest ones are kept, and what is missing is said."""
    found = fitted([f"part {number} {'x' * 200}" for number in range(1_000)], 1_200)
    assert size(found) <= 1_200
    assert found[0].startswith("part 0")
    assert "messages left out" in found[1]
    assert found[-1].startswith("part 999")


def test_the_record_names_who_said_what() -> None:
    """Calls with their arguments, results with their tool, in order; each halving makes it shorter."""
    turns: list[Turn] = [
        UserTurn(text="Do it."),
        AssistantTurn(text="I look.", calls=(ProposedCall(provider_id="1", tool="web_fetch", arguments={"u": 1}),)),
        ResultTurn(provider_id="1", tool="web_fetch", text="x" * 50_000, ok=False),
    ]
    text = record(turns, 200_000, 0)
    assert text.startswith(
        '## 1. person\nDo it.\n\n## 2. model\nI look.\nCalls web_fetch {"u": 1}\n\n## 3. result of web_f'
    )
    assert "web_fetch (not ok)" in text
    lengths = [len(record(turns, window, halved)) for window in (200_000, None) for halved in range(4)]
    assert lengths[0] > 50_000
    assert lengths[4:] == sorted(lengths[4:], reverse=True)
    assert lengths[4] < 30_000


def test_what_can_stand_for_a_conversation() -> None:
    """Text that says something, even if it was cut; not a refusal, not silence."""
    assert usable(ModelReply(stop=Stop.MAX_TOKENS, text="The task is"))
    assert not usable(ModelReply(stop=Stop.END, text=" \n"))
    assert not usable(ModelReply(stop=Stop.REFUSAL, text="I cannot."))


# The seam


OPENING = Prefix(
    before=0,
    org_id="org",
    system="",
    tools=(),
    output_schema=None,
    turns=(),
    turns_sha256="",
    characters=0,
    last_message="the task",
).and_then([UserTurn(text="the task")], 0)


Rows = list[dict[str, Any]]


def rows(kinds: list[str]) -> tuple[Rows, Rows]:
    """A session's answers, with a call each, and its summaries; and the messages that came meanwhile."""
    made: Rows = []
    written: Rows = []
    unread: list[str] = []
    for kind in kinds:
        number = len(made) + 1
        if kind == "message":
            unread.append(f"message {len(written) + len(unread)}")
            continue
        if kind == "answer":  # a summary reads no new message
            written += [{"call_no": number, "body": body} for body in unread]
            unread = []
        call = ProposedCall(provider_id=f"p{number}", tool="t", arguments={})
        calls = (call,) if kind == "answer" else ()
        reply = ModelReply(stop=Stop.TOOL_CALLS if calls else Stop.END, text=f"{kind} {number}", calls=calls)
        result = {"provider_id": f"p{number}", "tool": "t", "content": f"result {number}", "ok": True, "notes": []}
        row = {"call_no": number, "purpose": kind, "model": "m", "answer": reply.model_dump(mode="json")}
        made.append({**row, "calls": [result] if calls else None})
    return made, written


def texts(prefix: Prefix) -> list[str]:
    return [turn.text for turn in prefix.turns]


KINDS = st.lists(st.sampled_from(["answer", "answer", "message", "summary"]), max_size=25)


@settings(max_examples=300, deadline=None)
@given(KINDS)
def test_no_turn_is_lost_or_doubled(kinds: list[str]) -> None:
    """What the last summary was made of, and what comes after it, is everything: each turn once, in order."""
    made, written = rows(kinds)
    everything = texts(extended(OPENING, [row for row in made if row["purpose"] == "answer"], list(written)))
    found = texts(extended(OPENING, made, list(written)))
    seam = max((row["call_no"] for row in made if row["purpose"] == "summary"), default=0)
    if not seam:
        assert found == everything
        return
    read = [row for row in made if row["call_no"] < seam]
    earlier = [message for message in written if message["call_no"] < seam]
    summarised = texts(extended(OPENING, [row for row in read if row["purpose"] == "answer"], list(earlier)))
    assert summarised + found[1:] == everything
    assert f"summary {seam}" in found[0]
    assert (earlier[-1]["body"] if earlier else "the task") in found[0]
    # The summary was given the one before it and all since; nothing older is read for what follows.
    asked = texts(extended(OPENING, read, list(earlier)))
    before = [row["call_no"] for row in read if row["purpose"] == "summary"]
    assert (f"summary {before[-1]}" in asked[0]) if before else (asked[0] == "the task")
    assert texts(extended(OPENING, [row for row in made if row["call_no"] >= seam], list(written))) == found


@settings(max_examples=200, deadline=None)
@given(KINDS, st.integers(0, 25))
def test_what_is_remembered_gives_the_same(kinds: list[str], at: int) -> None:
    """A process that kept the beginning and one that reads everything ask with the same conversation, by its digest."""
    made, written = rows(kinds)
    left = list(written)
    whole, remembered = (
        extended(OPENING, made, list(written)),
        extended(extended(OPENING, made[:at], left), made[at:], left),
    )
    assert whole == remembered
    assert whole.characters == sum(len(turn.model_dump_json()) for turn in whole.turns)


@settings(max_examples=100, deadline=None)
@given(KINDS)
def test_a_call_and_its_result_are_never_parted(kinds: list[str]) -> None:
    """Each result follows its call, and the conversation begins with a person."""
    turns = extended(OPENING, *rows(kinds)).turns
    assert turns[0].role == "user"
    for before, turn in pairwise(turns):
        if turn.role == "tool":
            assert isinstance(before, AssistantTurn)
            assert before.calls[0].provider_id == turn.provider_id


def test_the_last_message_is_kept_as_it_was() -> None:
    """A summary may lose a word that mattered; what the person wrote last is there, shortened only if it is very long."""
    assert beginning("S", "Say it in German.").count("Say it in German.") == 1
    assert len(beginning("S", "x" * 100_000)) < 10_000
    assert LAST_MESSAGE not in beginning("S", None)


def test_the_demo_model_keeps_what_is_left_of_its_script() -> None:
    """Directives that were answered are gone from its summary, a thought stays with its step."""
    script = "demo: call a {}\ndemo: think hm\ndemo: call b {}\ndemo: say done"
    turns: list[Turn] = [
        UserTurn(text=script),
        AssistantTurn(text="one"),
        ResultTurn(provider_id="1", tool="a", text="", ok=True),
    ]
    left = remaining(record(turns, 200_000, 0))
    assert left == "demo: think hm\ndemo: call b {}\ndemo: say done"
    again = parse(beginning(left, script))
    assert [step.say for step in again] == [None, "done"]
