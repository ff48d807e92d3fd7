"""The conversation of a session, read from what people, models and tools said."""

from dataclasses import dataclass
from typing import Any

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import AssistantTurn, ModelReply, ResultTurn, Stop, Turn, UserTurn
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import Facts, ToolResult
from conductor_ai.stores.postgres import Connection
from conductor_ai.text import TO_MODEL_BYTES, shorten

REPAIRS: dict[Stop, str] = {
    Stop.MALFORMED: (
        "Your reply could not be read, and nothing of it was run. Reply again in exactly the format of the instructions, "
        "and nothing else."
    ),
    Stop.MAX_TOKENS: (
        "Your reply was cut at the output limit in the middle of a tool call, so nothing was run. Reply again, shorter."
    ),
}
"""What the model is told after a reply that had to be asked for again."""


@dataclass(frozen=True)
class StoredCall:
    """One tool call as the journal holds it."""

    call_id: str
    provider_id: str
    tool: str
    arguments: JsonObject
    args_sha: str
    facts: Facts
    state: CallState
    result: ToolResult | None = None

    @property
    def replayable(self) -> bool:
        """Whether a call whose outcome is unknown may be run again."""
        return self.facts.replayable


@dataclass(frozen=True)
class Conversation:
    """What a model call needs of the session."""

    org_id: str
    system: str
    turns: tuple[Turn, ...]
    tools: tuple[str, ...]
    cancel_requested: bool
    set_back: bool
    """True if a reset left answers behind, one of which may be for exactly this conversation."""
    output_schema: JsonObject | None = None


def counts_as_step(stop: Stop, *, has_calls: bool) -> bool:
    """False for replies that are asked for again and therefore are no step of their own."""
    return not (stop in (Stop.MALFORMED, Stop.PAUSE, Stop.INVALID_OUTPUT) or (stop is Stop.MAX_TOKENS and has_calls))


def stored_call(row: Any) -> StoredCall:
    return StoredCall(
        call_id=row["call_id"],
        provider_id=row["provider_id"],
        tool=row["tool"],
        arguments=row["arguments"],
        args_sha=row["args_sha"],
        facts=Facts.model_validate(row["facts"]),
        state=CallState(row["state"]),
        result=None if row["result"] is None else ToolResult.model_validate(row["result"]),
    )


def _rejected(problems: tuple[str, ...]) -> str:
    """What the model is told of an answer that does not fit the session's schema."""
    found = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"Your answer does not fit the JSON Schema of the output:\n{found}\n"
        "Answer again with the whole, corrected JSON value and nothing else."
    )


def _turns_of(reply: ModelReply, calls: list[Any], model: str) -> list[Turn]:
    """The turns that one answered call and its results add to the conversation."""
    if reply.stop in REPAIRS and not counts_as_step(reply.stop, has_calls=bool(reply.calls)):
        return [AssistantTurn(text=reply.text or "(no readable reply)"), UserTurn(text=REPAIRS[reply.stop])]
    said: list[Turn] = [
        AssistantTurn(
            text=reply.final_answer or reply.text,
            calls=reply.calls,
            native=reply.native,
            native_provider=reply.native_provider,
            model=model,
        )
    ]
    if reply.stop is Stop.INVALID_OUTPUT:
        said.append(UserTurn(text=_rejected(reply.problems)))
    for call in calls:
        content = "This call has no result." if call["content"] is None else call["content"]
        said.append(
            ResultTurn(
                provider_id=call["provider_id"],
                tool=call["tool"],
                text=shorten(content, TO_MODEL_BYTES),
                ok=bool(call["ok"]),
            )
        )
    return said


async def conversation(connection: Connection, session_id: str, before: int) -> Conversation:
    """Everything said before model call `before`."""
    session = await connection.fetchrow(
        "SELECT org_id, system_prompt, tools, output_schema, cancel_requested_at, EXISTS (SELECT FROM conductor.model_calls m WHERE "
        "m.session_id = s.id AND m.superseded) AS set_back FROM conductor.sessions s WHERE id = $1",
        session_id,
    )
    said = await connection.fetch(
        "SELECT role, body FROM conductor.messages WHERE session_id = $1 ORDER BY part", session_id
    )
    answers = await connection.fetch(
        "SELECT call_no, model, answer FROM conductor.model_calls WHERE session_id = $1 AND NOT superseded AND call_no < $2 "
        "ORDER BY call_no",
        session_id,
        before,
    )
    rows = await connection.fetch(
        "SELECT call_no, provider_id, tool, result ->> 'content' AS content, (result ->> 'ok')::boolean AS ok "
        "FROM conductor.tool_calls WHERE session_id = $1 AND NOT superseded AND call_no < $2 ORDER BY call_no, idx",
        session_id,
        before,
    )
    calls: dict[int, list[Any]] = {}
    for row in rows:
        calls.setdefault(row["call_no"], []).append(row)
    assert session is not None
    system = [session["system_prompt"], *(m["body"] for m in said if m["role"] == "system")]
    turns: list[Turn] = [
        UserTurn(text=m["body"]) if m["role"] == "user" else AssistantTurn(text=m["body"])
        for m in said
        if m["role"] != "system"
    ]
    for row in answers:
        turns += _turns_of(ModelReply.model_validate(row["answer"]), calls.get(row["call_no"], []), row["model"])
    return Conversation(
        org_id=session["org_id"],
        system="\n\n".join(part for part in system if part),
        turns=tuple(turns),
        tools=tuple(session["tools"]),
        cancel_requested=session["cancel_requested_at"] is not None,
        set_back=session["set_back"],
        output_schema=session["output_schema"],
    )
