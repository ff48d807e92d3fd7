"""Writing down who decided what: the intention before a decision travels, and the decision once it counts."""

from typing import Any

from conductor_ai.contracts.base import Json, JsonObject
from conductor_ai.contracts.decisions import TEMPORAL_ACCESS, Decision, DecisionKind
from conductor_ai.contracts.grants import Remember
from conductor_ai.contracts.status import ApprovalStatus, CallState
from conductor_ai.contracts.tools import ToolResult
from conductor_ai.errors import Code, Conflict, NotFound
from conductor_ai.names import new_id
from conductor_ai.stores import call_words, grants
from conductor_ai.stores.postgres import Connection, Database
from conductor_ai.stores.writing import Writer
from conductor_ai.text import clean, clean_json

CLOSES: dict[DecisionKind, ApprovalStatus] = {
    "approve": ApprovalStatus.APPROVED,
    "deny": ApprovalStatus.DENIED,
    "edit": ApprovalStatus.EDITED,
    "answer": ApprovalStatus.ANSWERED,
}
"""What each decision makes of the approval."""


async def settle(writer: Writer, call_id: str, state: CallState, result: ToolResult, where: str, *values: Any) -> bool:
    """Write a call's result if `where` still holds. Returns whether it did."""
    row = await writer.connection.fetchrow(
        "UPDATE conductor.tool_calls SET state = $3, result = $4, finished_at = clock_timestamp() "
        f"WHERE call_id = $1 AND session_id = $2 AND {where} RETURNING call_no, tool",
        call_id,
        writer.session_id,
        state.value,
        clean_json(result.model_dump(mode="json", exclude={"ask_again"})),
        *values,
    )
    if row is None:
        return False
    writer.event(
        "tool.finished",
        {"call_id": call_id, "tool": row["tool"], "call_no": row["call_no"], "state": state.value, "ok": result.ok},
    )
    return True


def storable(decision: Decision) -> Decision:
    """The decision without what Postgres refuses: a write of it that can never succeed would never end."""
    comment = None if decision.comment is None else clean(decision.comment)
    return decision.model_copy(
        update={"decision_id": clean(decision.decision_id), "by": clean(decision.by), "comment": comment}
    )


async def _intended(connection: Connection, decision: Decision) -> tuple[Any, bool]:
    """What is stored under the decision's id, and whether it is this very decision."""
    stored = await connection.fetchrow(
        "SELECT decision, args_sha, round, content_sha, by, via, verified, payload FROM conductor.decisions "
        "WHERE call_id = $1 AND decision_id = $2",
        decision.call_id,
        decision.decision_id,
    )
    same = stored is not None and (
        stored["decision"],
        stored["args_sha"],
        stored["round"],
        stored["content_sha"],
    ) == (decision.decision, decision.arguments_sha256, decision.round, decision.content_sha256)
    return stored, same


async def apply_decision(writer: Writer, decision: Decision, *, allow_unverified: bool = True) -> bool:
    """Write a decision that the workflow accepted; approve makes the call ready, deny and answer settle it. False: no news.

    Whoever reaches Temporal can send signals and updates and say in them whatever they like. So what a decision says of
    its author counts for nothing: it is verified exactly if the API wrote down the intention, for a key, before it sent
    the decision. Without `allow_unverified` no other approval counts; a denial always does, it is the safe side. An edit
    and an answer count only with the intention, which has their text.
    """
    connection = writer.connection
    decision = storable(decision)
    stored, same = await _intended(connection, decision)
    if stored is not None and not same:
        # Somebody's intention has this id, and this is not it: nothing of theirs may be said to have decided.
        decision = decision.model_copy(update={"decision_id": new_id("dec")})
    intended = stored if stored is not None and same and stored["verified"] else None
    by = intended["by"] if intended else TEMPORAL_ACCESS
    verified = intended is not None
    if not verified and decision.decision != "deny" and (not allow_unverified or decision.decision != "approve"):
        return False
    approval = await connection.fetchrow(
        "UPDATE conductor.approvals a SET status = $4, closed_at = $5 FROM conductor.tool_calls t WHERE a.call_id = $1 "
        "AND a.session_id = $2 AND a.status = 'pending' AND a.args_sha = $3 AND a.round = $6 AND t.call_id = a.call_id "
        "RETURNING a.id, a.arguments, t.tool",
        decision.call_id,
        writer.session_id,
        decision.arguments_sha256,
        CLOSES[decision.decision].value,
        decision.at,
        decision.round,
    )
    if approval is None:
        return False
    await connection.execute(
        "INSERT INTO conductor.decisions (call_id, decision_id, args_sha, decision, by, verified, via, comment, counted, at, round) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, true, $9, $10) "
        "ON CONFLICT (call_id, decision_id) DO UPDATE SET counted = true, at = excluded.at",
        decision.call_id,
        decision.decision_id,
        decision.arguments_sha256,
        decision.decision,
        by,
        verified,
        intended["via"] if intended else "signal",
        decision.comment,
        decision.at,
        decision.round,
    )
    writer.event(
        "approval.decided",
        {
            "approval_id": approval["id"],
            "call_id": decision.call_id,
            "decision": decision.decision,
            "by": by,
            "verified": verified,
        },
    )
    payload: JsonObject = (intended["payload"] if intended else None) or {}
    await _follow(writer, decision.model_copy(update={"by": by}), approval, payload)
    return True


async def _follow(writer: Writer, decision: Decision, approval: Any, payload: JsonObject) -> None:
    """What a decision that counts does to its call."""
    open_still = "state IN ('ready', 'waiting')"
    match decision.decision:
        case "approve":
            await writer.connection.execute(
                "UPDATE conductor.tool_calls SET state = 'ready' WHERE call_id = $1 AND state = 'waiting'",
                decision.call_id,
            )
            if (wanted := payload.get("remember")) is not None:
                await grants.remember(writer, approval, decision, Remember.model_validate(wanted))
        case "deny":
            await settle(writer, decision.call_id, CallState.DENIED, call_words.denied(decision.comment), open_still)
        case "answer":
            await writer.connection.execute(
                "UPDATE conductor.tool_calls SET notes = notes || $2::jsonb WHERE call_id = $1 AND state IN ('ready', 'waiting')",
                decision.call_id,
                [call_words.ANSWERED_NOTE],
            )
            answer = call_words.answered(str(payload.get("answer", "")))
            await settle(writer, decision.call_id, CallState.ANSWERED, answer, open_still)
        case "edit":
            pass  # `revise_call` gives the call its arguments: only a worker can check them against the tool


async def edited_arguments(writer: Writer, decision: Decision) -> JsonObject | None:
    """The arguments that a person wrote, if that decision counted."""
    payload: Json = await writer.connection.fetchval(
        "SELECT payload FROM conductor.decisions WHERE call_id = $1 AND decision_id = $2 AND counted AND round = $3",
        decision.call_id,
        clean(decision.decision_id),
        decision.round,
    )
    arguments = payload.get("arguments") if isinstance(payload, dict) else None
    return arguments if isinstance(arguments, dict) else None


class Intentions:
    """What the API writes before a decision travels where nobody can prove who sent it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def intend(self, org_id: str, decision: Decision, payload: JsonObject | None = None) -> None:
        """Write down who is about to decide what.

        Raises:
            NotFound: this org has no such call.
            Conflict: the same decision id stands for something else.
        """
        decision = storable(decision)
        async with self._database.transaction() as connection:
            stored = await connection.fetchrow(
                "INSERT INTO conductor.decisions (call_id, decision_id, args_sha, decision, by, verified, via, comment, round, "
                "content_sha, payload) "
                "SELECT $1, $2, $3, $4, $5, true, $6, $7, $9, $10, $11 FROM conductor.approvals WHERE call_id = $1 AND org_id = $8 LIMIT 1 "
                "ON CONFLICT (call_id, decision_id) DO UPDATE SET decision_id = excluded.decision_id "
                "RETURNING args_sha, decision, by, content_sha",
                decision.call_id,
                decision.decision_id,
                decision.arguments_sha256,
                decision.decision,
                decision.by,
                decision.via,
                decision.comment,
                org_id,
                decision.round,
                decision.content_sha256,
                None if payload is None else clean_json(payload),
            )
        if stored is None:
            raise NotFound("There is no such approval.")
        if (stored["args_sha"], stored["decision"], stored["by"], stored["content_sha"]) != (
            decision.arguments_sha256,
            decision.decision,
            decision.by,
            decision.content_sha256,
        ):
            raise Conflict("This decision id stands for another decision.", code=Code.ALREADY_DECIDED)

    async def withdraw(self, decision: Decision) -> None:
        """Take back an intention that was refused."""
        async with self._database.connection() as connection:
            await connection.execute(
                "DELETE FROM conductor.decisions WHERE call_id = $1 AND decision_id = $2 AND NOT counted",
                decision.call_id,
                clean(decision.decision_id),
            )
