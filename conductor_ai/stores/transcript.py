"""The conversation of a session, read from what people, models and tools said."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from conductor_ai.compaction import beginning
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import AssistantTurn, ModelReply, ResultTurn, Stop, Turn, UserTurn
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import Facts, ToolResult
from conductor_ai.digest import chained_sha256
from conductor_ai.stores.call_words import told
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
    round: int = 1
    """Which time it is asked."""

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
    cost_usd: Decimal
    """Spent so far."""
    output_schema: JsonObject | None = None
    turns_sha256: str = ""
    """The digest of all turns, each chained to the one before."""
    native_models: frozenset[str | None] = frozenset()
    """Models of whose provider's own blocks some are in the turns."""


@dataclass(frozen=True)
class Prefix:
    """The part of a conversation that no later write of the same run can change, so that it need not be read again."""

    before: int
    """All calls with lower numbers are in it."""
    org_id: str
    system: str
    tools: tuple[str, ...]
    output_schema: JsonObject | None
    turns: tuple[Turn, ...]
    turns_sha256: str
    characters: int
    """Of its turns as JSON."""
    last_message: str | None = None
    """The newest message of a person: it is repeated after a summary."""
    native_models: frozenset[str | None] = frozenset()
    """As in `Conversation`. So nobody has to look through all turns for them."""

    def and_then(self, turns: list[Turn], before: int) -> "Prefix":
        """The same with more turns."""
        sha256, characters = self.turns_sha256, self.characters
        for turn in turns:
            text = turn.model_dump_json()
            sha256, characters = chained_sha256(sha256, text), characters + len(text)
        native = {turn.model for turn in turns if turn.role == "assistant" and turn.native}
        return replace(
            self,
            before=before,
            turns=(*self.turns, *turns),
            turns_sha256=sha256,
            characters=characters,
            native_models=self.native_models | native,
        )

    def summarised(self, summary: str, before: int) -> "Prefix":
        """The same with a summary in the place of all its turns."""
        nothing = replace(self, turns=(), turns_sha256="", characters=0)
        return nothing.and_then([UserTurn(text=beginning(summary, self.last_message))], before)


def counts_as_step(stop: Stop, *, has_calls: bool) -> bool:
    """False for replies that are asked for again and therefore are no step of their own."""
    return not (
        stop in (Stop.MALFORMED, Stop.PAUSE, Stop.INVALID_OUTPUT, Stop.CONTEXT_EXCEEDED)
        or (stop is Stop.MAX_TOKENS and has_calls)
    )


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
        round=row["round"],
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
                text=shorten(told(call["notes"], content), TO_MODEL_BYTES),
                ok=bool(call["ok"]),
            )
        )
    return said


_FINAL = [state.value for state in CallState if state.settled and state is not CallState.OUTCOME_UNKNOWN]
"""States whose result stays as it is. What became of an unknown outcome may still be found out."""


_SINCE = """
    SELECT s.run_id, s.ended_at IS NOT NULL AS ended, s.cancel_requested_at IS NOT NULL AS cancel_requested, s.cost_usd,
      EXISTS (SELECT FROM conductor.model_calls m WHERE m.session_id = s.id AND m.call_no = $3 AND NOT m.superseded) AS answered,
      EXISTS (SELECT FROM conductor.model_calls m WHERE m.session_id = s.id AND m.superseded) AS set_back,
      -- What people wrote since the start; what came with it is in the opening.
      (SELECT json_agg(json_build_object('body', w.body, 'call_no', w.call_no) ORDER BY w.call_no, w.part)
        FROM conductor.messages w WHERE w.session_id = s.id AND w.call_no > 0 AND w.call_no BETWEEN $2 AND $3) AS written,
      (SELECT json_agg(json_build_object('call_no', m.call_no, 'model', m.model, 'purpose', m.purpose, 'answer', m.answer,
          'calls', (SELECT json_agg(json_build_object('provider_id', t.provider_id, 'tool', t.tool, 'notes', t.notes,
            'content', t.result -> 'content', 'ok', t.result -> 'ok', 'final', t.state = ANY($4)) ORDER BY t.idx)
            FROM conductor.tool_calls t WHERE t.session_id = m.session_id AND t.call_no = m.call_no AND NOT t.superseded)
        ) ORDER BY m.call_no)
        FROM conductor.model_calls m WHERE m.session_id = s.id AND NOT m.superseded AND m.call_no < $3
        AND m.purpose <> 'no_summary'
        -- What the last summary stands for need not be read.
        AND m.call_no >= greatest($2, (SELECT max(l.call_no) FROM conductor.model_calls l WHERE l.session_id = s.id
          AND NOT l.superseded AND l.purpose = 'summary' AND l.call_no >= $2 AND l.call_no < $3))) AS rows
    FROM conductor.sessions s WHERE s.id = $1
"""
"""What came after a prefix, with where the session stands, in one statement: a step begins with it.

As json and not as jsonb, an array of which holds no more than 256 MB, and is built only to be written out as text.
"""


async def _opening(connection: Connection, session_id: str) -> Prefix | None:
    """What was said before the first model call."""
    session = await connection.fetchrow(
        "SELECT org_id, system_prompt, tools, output_schema, (SELECT jsonb_agg(jsonb_build_object('role', m.role, 'body', m.body) "
        "ORDER BY m.part) FROM conductor.messages m WHERE m.session_id = s.id AND m.call_no = 0) AS said "
        "FROM conductor.sessions s WHERE id = $1",
        session_id,
    )
    if session is None:
        return None
    said = session["said"] or []
    system = [session["system_prompt"], *(m["body"] for m in said if m["role"] == "system")]
    turns: list[Turn] = [
        UserTurn(text=m["body"]) if m["role"] == "user" else AssistantTurn(text=m["body"])
        for m in said
        if m["role"] != "system"
    ]
    nothing = Prefix(
        before=0,
        org_id=session["org_id"],
        system="\n\n".join(part for part in system if part),
        tools=tuple(session["tools"]),
        turns=(),
        turns_sha256="",
        characters=0,
        output_schema=session["output_schema"],
        last_message=next((m["body"] for m in reversed(said) if m["role"] == "user"), None),
    )
    return nothing.and_then(turns, 0)


def extended(prefix: Prefix, rows: Sequence[Any], written: list[Any]) -> Prefix:
    """The prefix with these answers and the results of their calls, each after the messages that it had read.

    A summary stands for all that was before it.

    Args:
        rows: current answers and summaries in order (`call_no`, `purpose`, `model`, `answer`, `calls`).
        written: messages in their order (`call_no`, `body`); those that are taken are removed.
    """
    for row in rows:
        reply, after = ModelReply.model_validate(row["answer"]), row["call_no"] + 1
        prefix = _with_messages(prefix, written, row["call_no"])
        if row["purpose"] == "summary":
            prefix = prefix.summarised(reply.text, after)
        else:
            prefix = prefix.and_then(_turns_of(reply, row["calls"] or [], row["model"]), after)
    return prefix


def _with_messages(prefix: Prefix, written: list[Any], call_no: int) -> Prefix:
    """The prefix with the messages that this call had read."""
    taken: list[str] = []
    while written and written[0]["call_no"] <= call_no:
        taken.append(written.pop(0)["body"])
    if not taken:
        return prefix
    return replace(prefix.and_then([UserTurn(text=body) for body in taken], prefix.before), last_message=taken[-1])


@dataclass(frozen=True)
class Reading:
    """What one look at a session found."""

    conversation: Conversation
    final: Prefix
    """How much of the conversation is final."""
    run_id: str | None
    """The run that may write to the session."""
    ended: bool
    answered: bool
    """Whether the model call that was asked about has its answer already."""


async def conversation(
    connection: Connection, session_id: str, before: int, known: Prefix | None = None
) -> Reading | None:
    """Everything said before model call `before`, as one moment of the store has it; None if there is no such session.

    `known`: what an earlier call of this run was given as final; only what came since is read.
    """
    prefix = known if known is not None and known.before <= before else await _opening(connection, session_id)
    found = None if prefix is None else await connection.fetchrow(_SINCE, session_id, prefix.before, before, _FINAL)
    if prefix is None or found is None:
        return None
    rows, written = found["rows"] or [], found["written"] or []
    first_open = next((n for n, row in enumerate(rows) if not all(c["final"] for c in row["calls"] or ())), len(rows))
    prefix = extended(prefix, rows[:first_open], written)
    whole = extended(prefix, rows[first_open:], written)
    whole = _with_messages(whole, written, before)
    said = Conversation(
        org_id=whole.org_id,
        system=whole.system,
        turns=whole.turns,
        tools=whole.tools,
        cancel_requested=found["cancel_requested"],
        set_back=found["set_back"],
        cost_usd=found["cost_usd"],
        output_schema=whole.output_schema,
        turns_sha256=whole.turns_sha256,
        native_models=whole.native_models,
    )
    return Reading(said, prefix, found["run_id"], found["ended"], found["answered"])
