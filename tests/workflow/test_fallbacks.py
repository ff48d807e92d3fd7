"""Fallback models, on a real Temporal server with a real Postgres."""

from typing import Any

from temporalio.client import Client

from activities.providers.anthropic import AnthropicProvider
from activities.providers.base import Factory
from activities.providers.openai_compatible import OpenAICompatibleProvider
from conductor_ai.contracts.models import AssistantTurn, ModelReply, Usage
from conductor_ai.contracts.status import Status
from conductor_ai.errors import Code, ModelFailure
from conductor_ai.testing import Call, Failure, Reply, ScriptedProvider
from conductor_ai.testing.fake_anthropic import FakeAnthropic
from conductor_ai.testing.fake_openai import FakeOpenAI
from tests.rig import Rig, answer, calls, rig
from tests.tools import FakeTool

MODELS = ("claude-haiku-5-5", "openai:mine")


def busy() -> ModelFailure:
    return ModelFailure("Busy.", code=Code.MODEL_UNAVAILABLE, retryable=True, retry_after=0.01, kind="overloaded")


def gone() -> ModelFailure:
    return ModelFailure("Gone.", code=Code.MODEL_REJECTED_REQUEST, retryable=False, kind="unknown_model")


async def events(r: Rig, session_id: str) -> list[dict[str, Any]]:
    async with r.parts.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT body FROM conductor.events WHERE session_id = $1 AND type = 'model.fallback' ORDER BY seq",
            session_id,
        )
    return [row["body"] for row in rows]


async def test_the_next_model_goes_on(temporal: Client, store_url: str, task_queue: str) -> None:
    """After all attempts, or at once where a model is not served: the same step, the next model, for the rest of the session.

    Steps show their model, the session carries a warning and an event for each, across continue-as-new.
    """
    replies: list[ModelReply | Exception] = [
        calls(("web_fetch", {"text": "x"})),
        busy(),
        busy(),
        gone(),
        calls(("web_fetch", {"text": "y"})),
        answer(),
    ]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[FakeTool()]) as r:
        session_id = await r.start(fallback_models=MODELS, model_max_attempts=2, continue_as_new_steps=1)
        view = await r.ended(session_id, seconds=60)
        found = await events(r, session_id)
    assert (view.status, len(view.steps)) == (Status.COMPLETED, 3)
    assert [step.model for step in view.steps] == ["demo", "openai:mine", "openai:mine"]
    assert view.model == "demo"
    assert view.fallback_models == MODELS
    assert [(body["from_model"], body["to_model"], body["reason"]) for body in found] == [
        ("demo", MODELS[0], "overloaded"),
        (MODELS[0], MODELS[1], "unknown_model"),
    ]
    assert len(view.warnings) == 2
    assert "From step 2 on openai:mine answers: claude-haiku-5-5 could not be had" in view.warnings[1]
    assert view.retry is None
    assert isinstance(r.provider, ScriptedProvider)
    assert [request.model for request in r.provider.requests] == [
        "demo",
        "demo",
        "demo",
        MODELS[0],
        MODELS[1],
        MODELS[1],
    ]


async def test_no_model_left(temporal: Client, store_url: str, task_queue: str) -> None:
    """The failure of the last one is the session's; a failure that no other model mends is not passed on to one."""
    async with rig(temporal, store_url, task_queue, replies=[busy(), busy()]) as r:
        all_busy = await r.ended(await r.start(fallback_models=MODELS[:1], model_max_attempts=1))
    wrong_key = ModelFailure("Bad key.", code=Code.MODEL_AUTHENTICATION, retryable=False, kind="authentication")
    async with rig(temporal, store_url, task_queue + "b", replies=[wrong_key, answer()]) as r:
        refused = await r.ended(await r.start(fallback_models=MODELS))
    assert all_busy.error is not None
    assert (all_busy.error.code, all_busy.error.retryable, len(all_busy.warnings)) == ("model_unavailable", True, 1)
    assert refused.error is not None
    assert (refused.error.code, refused.warnings) == ("model_authentication", ())


class Billed(ScriptedProvider):
    """Uses something before it fails."""

    async def complete(self, request: Any, listener: Any, /) -> ModelReply:
        listener.usage(Usage(input=7, output=3))
        return await super().complete(request, listener)


async def test_failed_attempts_are_counted(temporal: Client, store_url: str, task_queue: str) -> None:
    """What the given-up model used is in the session's totals, in the step's, and in what the workflow believes."""
    async with rig(temporal, store_url, task_queue, provider=Billed([busy(), busy(), answer()])) as r:
        session_id = await r.start(fallback_models=MODELS[:1], model_max_attempts=2)
        view = await r.ended(session_id, seconds=60)
        state = await r.handle(session_id).query("state")
    assert (view.input_tokens, view.output_tokens) == (7 + 7 + 50, 3 + 3 + 10)
    assert (view.steps[0].tokens.input, view.steps[0].attempts) == (64, 3)
    assert (state["tally"]["input_tokens"], state["model_index"]) == (64, 1)


async def test_from_claude_to_another_provider(temporal: Client, store_url: str, task_queue: str) -> None:
    """Through the real SDK: thinking blocks stay behind, the tool call and its result go along."""
    async with (
        FakeAnthropic(
            Reply(thinking="Hm.", text="I look.", calls=(Call(tool="web_fetch", arguments={"text": "x"}),)),
            Failure(status=529, type="overloaded_error", headers={"retry-after": "0"}),
            Failure(status=404, type="not_found_error"),
        ) as claude,
        FakeOpenAI(Reply(text="Done.")) as other,
    ):
        first, second = AnthropicProvider("sk-test", claude.url), OpenAICompatibleProvider(other.base_url, None)
        factories: dict[str, Factory] = {"anthropic": lambda: first, "openai_compatible": lambda: second}
        async with rig(temporal, store_url, task_queue, tools=[FakeTool()], factories=factories) as r:
            session_id = await r.start(model="claude-sonnet-5-5", fallback_models=("openai:mine",))
            view = await r.ended(session_id, seconds=60)
        [sent] = [received.json for received in other.received]
    assert (view.status, view.final_answer) == (Status.COMPLETED, "Done.")
    assert [step.model for step in view.steps] == ["claude-sonnet-5-5", "openai:mine"]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
    assert "Hm." not in str(sent)


def test_blocks_of_another_model_are_left_aside() -> None:
    """Also of the same provider: what signs one model's thinking is nothing to another."""
    from activities.providers.history import own_native

    turn = AssistantTurn(text="t", native=({"type": "thinking"},), native_provider="anthropic", model="a")
    assert own_native([turn], "a") == (turn,)
    [left] = own_native([turn], "b")
    assert isinstance(left, AssistantTurn)
    assert (left.text, left.native, left.native_provider) == ("t", (), None)
