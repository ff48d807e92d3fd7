"""Calls and results, paired as model APIs insist, whatever the conversation looks like."""

import re

from hypothesis import given
from hypothesis import strategies as st

from activities.providers.anthropic_request import messages as anthropic_messages
from activities.providers.history import Said, arrange
from activities.providers.openai_request import messages as openai_messages
from conductor_ai.contracts.models import AssistantTurn, ProposedCall, ResultTurn, Turn, UserTurn
from conductor_ai.testing.fake_anthropic import complaint as anthropic_complaint
from conductor_ai.testing.fake_openai import complaint as openai_complaint

IDS = st.sampled_from(["a", "b", "a b", "", "x" * 100, "call_1"])
CALLS = st.builds(
    ProposedCall,
    provider_id=IDS,
    tool=st.just("t"),
    arguments=st.none() | st.just({}),
    raw=st.none(),
)
TURNS: st.SearchStrategy[list[Turn]] = st.lists(
    st.one_of(
        st.builds(UserTurn, text=st.sampled_from(["", " ", "hello"])),
        st.builds(
            AssistantTurn,
            text=st.sampled_from(["", "I look."]),
            calls=st.lists(CALLS, max_size=3).map(tuple),
            native=st.just(()),
            native_provider=st.none(),
        ),
        st.builds(ResultTurn, provider_id=IDS, tool=st.just("t"), text=st.sampled_from(["", "r"]), ok=st.booleans()),
    ),
    max_size=8,
)


@given(TURNS)
def test_every_call_gets_an_id_of_its_own(turns: list[Turn]) -> None:
    """Ids are valid and never repeat, though a provider's may; order and number of calls stay."""
    calls = [sent for item in arrange(turns) if isinstance(item, Said) for sent in item.calls]
    ids = [sent.id for sent in calls]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", id_) for id_ in ids)
    assert [sent.call for sent in calls] == [call for turn in turns if turn.role == "assistant" for call in turn.calls]


@given(TURNS)
def test_the_messages_api_takes_any_conversation(turns: list[Turn]) -> None:
    """Whatever happened to a session, what is sent has the shape that the API demands."""
    first: list[Turn] = [UserTurn(text="hello")]
    body = {"messages": anthropic_messages((*first, *turns)), "max_tokens": 1, "stream": True}
    assert anthropic_complaint(body) is None


@given(TURNS)
def test_a_chat_completion_takes_any_conversation(turns: list[Turn]) -> None:
    """The same for the other API."""
    kept = [turn for turn in turns if not (isinstance(turn, UserTurn) and not turn.text)]
    body = {"messages": openai_messages((UserTurn(text="hello"), *kept)), "stream": True}
    assert openai_complaint(body) is None


def test_results_are_paired_in_order_with_ids_that_repeat() -> None:
    """Two calls under one id get the first and the second result."""
    calls = (ProposedCall(provider_id="same", tool="t", arguments={}),) * 2
    turns: list[Turn] = [
        AssistantTurn(text="", calls=calls),
        ResultTurn(provider_id="same", tool="t", text="first", ok=True),
        UserTurn(text="meanwhile"),
        ResultTurn(provider_id="same", tool="t", text="second", ok=True),
    ]
    said, asked = arrange(turns)
    assert isinstance(said, Said)
    assert [sent.text for sent in said.calls] == ["first", "second"]
    assert not isinstance(asked, Said)
    assert asked.text == "meanwhile"
