"""Whether an answer is what the session's `output_schema` wants. Pure."""

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import ModelReply, Stop
from conductor_ai.output_schema import Fits, Misfits, read

CUT = "The answer was cut at the output limit. Answer more briefly."


def with_output(reply: ModelReply, schema: JsonObject | None) -> ModelReply:
    """The reply with its value, or as `INVALID_OUTPUT` with what is wrong. Replies that are no answer stay as they are."""
    if schema is None or reply.calls or reply.stop not in (Stop.END, Stop.TOOL_CALLS, Stop.MAX_TOKENS):
        return reply
    found = read(reply.final_answer if reply.final_answer is not None else reply.text, schema)
    match found:
        case Fits(value):
            return reply.model_copy(update={"output": value, "stop": Stop.END})
        case Misfits(problems):
            told = (CUT,) if reply.stop is Stop.MAX_TOKENS else problems
            return reply.model_copy(update={"stop": Stop.INVALID_OUTPUT, "problems": told})
