"""The request that asks a model to summarise its session's conversation. Pure."""

from conductor_ai import catalog
from conductor_ai.compaction import INSTRUCTIONS, SUMMARY_TOKENS, record
from conductor_ai.contracts.models import ModelReply, ModelRequest, UserTurn
from conductor_ai.contracts.session import ModelInput
from conductor_ai.stores.transcript import Conversation


def summary_request(request: ModelInput, conversation: Conversation, halved: int) -> ModelRequest:
    """Everything said before this call, as one text. Without tools: they are not to be called, and it reads the same for
    every provider."""
    window = catalog.find(request.model).context_window
    return ModelRequest(
        model=request.model,
        system=INSTRUCTIONS,
        turns=(UserTurn(text=record(conversation.turns, window, halved)),),
        tools=(),
        max_output_tokens=SUMMARY_TOKENS,
        step=request.step,
        summary=True,
    )


def without_calls(reply: ModelReply) -> ModelReply:
    """A summary calls nothing, whatever the model had in mind."""
    return reply.model_copy(update={"calls": (), "native": (), "native_provider": None})


def context_share(model: str, input_tokens: int) -> float:
    """How much of the model's window an input took; 0 if the window is not known."""
    window = catalog.find(model).context_window
    return round(input_tokens / window, 4) if window else 0.0
