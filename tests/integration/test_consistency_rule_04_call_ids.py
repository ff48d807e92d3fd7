"""Call ids are ours: a provider's own may repeat, within an answer and between answers."""

from temporalio.client import Client

from conductor_ai.contracts.models import ModelReply, ProposedCall, ResultTurn, Stop
from conductor_ai.contracts.status import Status
from conductor_ai.testing import ScriptedProvider
from tests.rig import answer, rig
from tests.tools import FakeTool


def same_id(*texts: str) -> ModelReply:
    """Calls that all come with one provider id."""
    called = tuple(ProposedCall(provider_id="call_0", tool="web_fetch", arguments={"text": text}) for text in texts)
    return ModelReply(stop=Stop.TOOL_CALLS, text="", calls=called)


async def test_repeated_provider_ids_mix_nothing_up(temporal: Client, store_url: str, task_queue: str) -> None:
    """Keyed by the provider's id, four calls would be one and the later results would be the first's. All four run."""
    tool = FakeTool()
    provider = ScriptedProvider([same_id("a", "b"), same_id("c", "a"), answer()])
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        view = await r.ended(await r.start())
    actions = [action for step in view.steps for action in step.actions]
    assert view.status is Status.COMPLETED
    assert len({action.call_id for action in actions}) == 4
    assert [action.observation for action in actions] == ["echo: a", "echo: b", "echo: c", "echo: a"]
    told = [turn.text for turn in provider.requests[-1].turns if isinstance(turn, ResultTurn)]
    assert told == [action.observation for action in actions]
    assert len(tool.runs) == 4
