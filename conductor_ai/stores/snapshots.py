"""Snapshots of sessions, built from the rows: no document is stored, so parallel writers cannot lose each other's work."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from conductor_ai.contracts.control import Pause
from conductor_ai.contracts.policy import OnExpiry
from conductor_ai.contracts.status import ApprovalStatus, CallState, Phase, Status, StopReason
from conductor_ai.contracts.tools import Column
from conductor_ai.contracts.views import (
    ActionView,
    ApprovalView,
    BudgetView,
    DecisionView,
    ErrorView,
    ExecutionState,
    FirstAction,
    MessageView,
    RetryView,
    SessionSummary,
    SessionView,
    StepView,
    TimesView,
    Tokens,
)
from conductor_ai.stores.call_words import told
from conductor_ai.stores.postgres import Connection, Database

_APPROVALS = """
    SELECT a.*, t.tool, t.round AS call_round, t.state AS call_state, m.step, m.answer ->> 'text' AS thought
    FROM conductor.approvals a
    JOIN conductor.tool_calls t ON t.call_id = a.call_id
    JOIN conductor.model_calls m
      ON m.session_id = t.session_id AND m.call_no = t.call_no AND m.generation = t.generation
"""


LOOKED_THROUGH = 20_000
"""Sessions of which one page of a list is made, at most. No index fits every filter, and a page must not take longer the more
sessions an organisation has: one that has found too little by then says where to go on."""

_EVER = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))

_NEXT_SESSIONS = """
    WHERE org_id = $1 AND created_at >= $2 AND created_at < $3 AND (created_at, id) < ($4, $5)
    ORDER BY created_at DESC, id DESC
"""
"""Read from the index, from a place on. Every bound has a value, so that a plan that is kept begins at that place, too."""


@dataclass(frozen=True)
class SessionFilter:
    """Which sessions a list shows."""

    status: Status | None = None
    phase: Phase | None = None
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: dict[str, Any] | None = None
    """Entries that the session's metadata has all of."""
    text: str | None = None
    """Part of the title, whatever its case."""
    before: tuple[datetime, str] | None = None
    """Keyset: those made before this time and id."""
    limit: int = 50


@dataclass(frozen=True)
class SessionsFound:
    """A page of a list."""

    sessions: tuple[SessionSummary, ...]
    go_on: tuple[datetime, str] | None
    """`before` of the next page; None: there are no more."""


@dataclass(frozen=True)
class ApprovalFilter:
    """Which approvals a list shows."""

    status: ApprovalStatus | None = None
    session_id: str | None = None
    before: tuple[datetime, str] | None = None
    """Keyset: those asked before this time and id."""
    limit: int = 50


class Snapshots:
    """Reads for the API. All of them are scoped by org."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self, org_id: str, session_id: str) -> int | None:
        """The session's version; None if this org has no such session."""
        return (await self.versions([(org_id, session_id)])).get((org_id, session_id))

    async def versions(self, which: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Versions of sessions by org and id; of those that the org does not have, none."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT s.org_id, s.id, s.version FROM unnest($1::text[], $2::text[]) AS w(org_id, id) "
                "JOIN conductor.sessions s ON s.id = w.id AND s.org_id = w.org_id",
                [org_id for org_id, _ in which],
                [session_id for _, session_id in which],
            )
        return {(row["org_id"], row["id"]): row["version"] for row in rows}

    async def mark(self, org_id: str, session_id: str) -> tuple[int, Phase] | None:
        """The session's version and phase; None if this org has no such session."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT version, phase FROM conductor.sessions WHERE org_id = $1 AND id = $2", org_id, session_id
            )
        return None if row is None else (row["version"], Phase(row["phase"]))

    async def build(self, org_id: str, session_id: str) -> SessionView | None:
        """The whole session, of one moment; None if this org has no such session."""
        async with self._database.transaction(snapshot=True) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM conductor.sessions WHERE org_id = $1 AND id = $2", org_id, session_id
            )
            if row is None:
                return None
            pending = await _approvals(
                connection,
                _APPROVALS + "WHERE a.session_id = $1 AND a.status = 'pending' ORDER BY a.requested_at",
                session_id,
            )
            steps = await _steps(connection, row)
            messages = await _messages(connection, session_id, ended=Status(row["status"]).ended)
        return _session(row, steps, pending, messages)

    async def list_sessions(self, org_id: str, which: SessionFilter) -> SessionsFound:
        """Sessions of an org, newest first, at most `limit`, of the next `LOOKED_THROUGH`."""
        place = [
            org_id,
            which.created_after or _EVER[0],
            which.created_before or _EVER[1],
            *(which.before or (_EVER[1], "")),
            LOOKED_THROUGH,
        ]
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                # Only what a list shows: prompt, input and answer of a session may be large.
                "SELECT * FROM (SELECT id, status, phase, model, title, metadata, steps, cost_usd, stop_reason, created_at, "
                f"ended_at, version FROM conductor.sessions {_NEXT_SESSIONS} LIMIT $6) looked_through "
                "WHERE ($7::text IS NULL OR status = $7) AND ($8::text IS NULL OR phase = $8) "
                "AND ($9::text IS NULL OR model = $9) AND ($10::jsonb IS NULL OR metadata @> $10) "
                "AND ($11::text IS NULL OR position(lower($11) in lower(title)) > 0) "
                "ORDER BY created_at DESC, id DESC LIMIT $12",
                *place,
                which.status,
                which.phase,
                which.model,
                which.metadata,
                which.text,
                which.limit + 1,
            )
            shown = rows[: which.limit]
            go_on = (
                shown[-1]
                if len(rows) > len(shown)
                else await connection.fetchrow(
                    f"SELECT created_at, id FROM conductor.sessions {_NEXT_SESSIONS} OFFSET $6 - 1 LIMIT 1", *place
                )
            )
        return SessionsFound(
            tuple(_summary(row) for row in shown), None if go_on is None else (go_on["created_at"], go_on["id"])
        )

    async def approval(self, org_id: str, approval_id: str) -> ApprovalView | None:
        """One approval; None if this org has no such approval."""
        async with self._database.connection() as connection:
            found = await _approvals(connection, _APPROVALS + "WHERE a.org_id = $1 AND a.id = $2", org_id, approval_id)
        return found[0] if found else None

    async def list_approvals(self, org_id: str, which: ApprovalFilter) -> list[ApprovalView]:
        """Approvals of an org, newest first, at most `limit`."""
        async with self._database.connection() as connection:
            return await _approvals(
                connection,
                _APPROVALS
                + "WHERE a.org_id = $1 AND ($2::text IS NULL OR a.status = $2) AND ($3::text IS NULL OR a.session_id = $3) "
                "AND ($4::timestamptz IS NULL OR (a.requested_at, a.id) < ($4, $5::text)) "
                "ORDER BY a.requested_at DESC, a.id DESC LIMIT $6",
                org_id,
                which.status,
                which.session_id,
                which.before[0] if which.before else None,
                which.before[1] if which.before else None,
                which.limit,
            )


def _summary(row: Any) -> SessionSummary:
    return SessionSummary(
        session_id=row["id"],
        status=Status(row["status"]),
        phase=Phase(row["phase"]),
        model=row["model"],
        title=row["title"],
        metadata=row["metadata"],
        step_count=row["steps"],
        total_cost_usd=float(row["cost_usd"]),
        stop_reason=StopReason(row["stop_reason"]) if row["stop_reason"] else None,
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        version=row["version"],
    )


def _execution(row: Any) -> ExecutionState:
    if row["round"] < row["call_round"]:
        return ExecutionState(state="not_started")  # what was decided then was not run: it was asked again
    match CallState(row["call_state"]):
        case CallState.EXECUTING:
            return ExecutionState(state="executing")
        case CallState.SUCCEEDED:
            return ExecutionState(state="succeeded")
        case CallState.FAILED:
            return ExecutionState(state="failed")
        case CallState.OUTCOME_UNKNOWN:
            return ExecutionState(state="outcome_unknown")
        case _:
            return ExecutionState(state="not_started")


async def _approvals(connection: Connection, sql: str, *values: Any) -> list[ApprovalView]:
    rows = await connection.fetch(sql, *values)
    if not rows:
        return []
    decisions = await connection.fetch(
        "SELECT * FROM conductor.decisions WHERE call_id = ANY($1) ORDER BY at", [row["call_id"] for row in rows]
    )
    return [
        ApprovalView(
            id=row["id"],
            session_id=row["session_id"],
            step=row["step"],
            call_id=row["call_id"],
            tool=row["tool"],
            arguments=row["arguments"],
            arguments_sha256=row["args_sha"],
            summary=row["consequence"]["summary"],
            risk=row["consequence"]["risk"],
            evidence=tuple(Column.model_validate(item) for item in row["consequence"]["evidence"]),
            thought=row["thought"] or None,
            rule=row["rule"],
            round=row["round"],
            on_expiry=OnExpiry(row["on_expiry"]),
            status=ApprovalStatus(row["status"]),
            requested_at=row["requested_at"],
            expires_at=row["expires_at"],
            decisions=tuple(
                DecisionView(
                    by=item["by"],
                    decision=item["decision"],
                    comment=item["comment"],
                    at=item["at"],
                    via=item["via"],
                    verified=item["verified"],
                    content_sha256=item["content_sha"],
                    counted=item["counted"],
                )
                for item in decisions
                if (item["call_id"], item["round"]) == (row["call_id"], row["round"])
            ),
            execution=_execution(row),
        )
        for row in rows
    ]


async def _steps(connection: Connection, session: Any) -> tuple[StepView, ...]:
    session_id = session["id"]
    completed, chat = session["status"] == Status.COMPLETED, session["mode"] == "chat"
    answers = await connection.fetch(
        "SELECT call_no, step, counts, model, answer, latency_ms, started_at FROM conductor.model_calls "
        "WHERE session_id = $1 AND NOT superseded ORDER BY call_no",
        session_id,
    )
    calls = await connection.fetch(
        "SELECT t.*, (SELECT a.id FROM conductor.approvals a WHERE a.call_id = t.call_id AND a.status <> 'superseded' "
        "ORDER BY a.round DESC LIMIT 1) AS approval_id FROM conductor.tool_calls t WHERE t.session_id = $1 AND NOT t.superseded ORDER BY t.call_no, t.idx",
        session_id,
    )
    spent = {
        row["step"]: row
        for row in await connection.fetch(
            "SELECT step, count(*) AS attempts, sum(input_tokens) AS input, sum(output_tokens) AS output, "
            "sum(cache_read_tokens) AS cache_read, sum(cache_write_tokens) AS cache_write, sum(cost_usd) AS cost "
            "FROM conductor.model_attempts WHERE session_id = $1 GROUP BY step",
            session_id,
        )
    }
    actions: dict[int, list[ActionView]] = {}
    for call in calls:
        actions.setdefault(call["call_no"], []).append(_action(call))
    counted = [row for row in answers if row["counts"]]
    last = counted[-1]["call_no"] if counted else None
    return tuple(
        _step(
            row,
            tuple(actions.get(row["call_no"], ())),
            spent.get(row["step"]),
            # Every turn of a chat ends with an answer; a run has one at its end.
            final=(completed and row["call_no"] == last) or (chat and not actions.get(row["call_no"])),
        )
        for row in counted
    )


async def _messages(connection: Connection, session_id: str, *, ended: bool) -> tuple[MessageView, ...]:
    rows = await connection.fetch(
        "SELECT m.message_id, m.role, m.body, m.at, m.by, m.call_no IS NOT NULL AS read, CASE WHEN m.call_no IS NULL THEN NULL ELSE "
        "(SELECT min(c.step) FROM conductor.model_calls c WHERE c.session_id = m.session_id AND NOT c.superseded AND c.counts "
        "AND c.call_no >= m.call_no) END AS step FROM conductor.messages m WHERE m.session_id = $1 ORDER BY m.part",
        session_id,
    )
    return tuple(
        MessageView(
            message_id=row["message_id"],
            role=row["role"],
            content=row["body"],
            at=row["at"],
            by=row["by"],
            before_step=row["step"],
            status="read" if row["read"] else "not_read" if ended else "waiting",
        )
        for row in rows
    )


def _budget(row: Any) -> BudgetView | None:
    cost, tokens = row["max_cost_usd"], row["max_total_tokens"]
    if cost is None and tokens is None:
        return None
    spent = row["input_tokens"] + row["output_tokens"]
    return BudgetView(
        max_cost_usd=None if cost is None else float(cost),
        max_total_tokens=tokens,
        cost_usd_left=None if cost is None else float(max(cost - row["cost_usd"], 0)),
        tokens_left=None if tokens is None else max(tokens - spent, 0),
    )


def _action(call: Any) -> ActionView:
    result = call["result"]
    return ActionView(
        call_id=call["call_id"],
        tool_name=call["tool"],
        arguments=call["arguments"],
        arguments_sha256=call["args_sha"],
        status=CallState(call["state"]),
        observation=None if result is None else told(call["notes"], result["content"]),
        data=None if result is None else result["data"],
        truncated=result is not None and result["truncated"],
        error=None if result is None else result["error"],
        approval_id=call["approval_id"],
        started_at=call["started_at"],
        finished_at=call["finished_at"],
    )


def _step(row: Any, actions: tuple[ActionView, ...], spent: Any, *, final: bool) -> StepView:
    answer = row["answer"]
    said = answer["final_answer"] if answer["final_answer"] is not None else answer["text"]
    observations = [action.observation for action in actions if action.observation is not None]
    return StepView(
        step_number=row["step"],
        thought=None if final and answer["final_answer"] is None else (answer["text"] or None),
        action=FirstAction(tool_name=actions[0].tool_name, arguments=actions[0].arguments) if actions else None,
        actions=actions,
        observation="\n\n".join(observations) if observations else None,
        is_final=final,
        final_answer=said if final else None,
        output=answer.get("output") if final else None,
        tokens=Tokens(
            input=int(spent["input"]),
            output=int(spent["output"]),
            cache_read=int(spent["cache_read"]),
            cache_write=int(spent["cache_write"]),
        )
        if spent
        else Tokens(),
        cost_usd=float(spent["cost"]) if spent else 0.0,
        latency_ms=row["latency_ms"],
        model=row["model"],
        attempts=spent["attempts"] if spent else 1,
        started_at=row["started_at"],
    )


def _waiting_for(row: Any, pending: list[ApprovalView]) -> str | None:
    match Phase(row["phase"]):
        case Phase.QUEUED:
            return "a worker to take it"
        case Phase.AWAITING_APPROVAL if len(pending) == 1:
            return f"a decision about {pending[0].tool} ({pending[0].id})"
        case Phase.AWAITING_APPROVAL:
            return f"decisions about {len(pending)} calls"
        case Phase.PAUSED:
            return f"somebody to resume it: {row['paused']['reason']}"
        case Phase.AWAITING_INPUT:
            return "the next message"
        case Phase.RETRYING:
            return f"the next attempt at {row['retry']['next_at']}"
        case Phase.THINKING:
            return "the model"
        case Phase.CALLING_TOOL:
            return "a tool"
        case Phase.CANCELLING:
            return "what is running to stop"
        case _:
            return None


def _session(
    row: Any, steps: tuple[StepView, ...], pending: list[ApprovalView], messages: tuple[MessageView, ...]
) -> SessionView:
    return SessionView(
        session_id=row["id"],
        status=Status(row["status"]),
        phase=Phase(row["phase"]),
        waiting_for=_waiting_for(row, pending),
        model=row["model"],
        fallback_models=tuple(row["input"].get("fallback_models", ())),
        title=row["title"],
        metadata=row["metadata"],
        tools=tuple(row["tools"]),
        max_steps=row["max_steps"],
        step_count=row["steps"],
        steps=steps,
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        total_cost_usd=float(row["cost_usd"]),
        final_answer=row["final_answer"],
        output=row["output"],
        stop_reason=StopReason(row["stop_reason"]) if row["stop_reason"] else None,
        error=ErrorView.model_validate(row["error"]) if row["error"] else None,
        pending_approvals=tuple(pending),
        retry=RetryView.model_validate(row["retry"]) if row["retry"] else None,
        mode=row["mode"],
        paused=None if row["paused"] is None else Pause.model_validate(row["paused"]),
        budget=_budget(row),
        messages=messages,
        times=TimesView(
            created_at=row["created_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            updated_at=row["updated_at"],
            deadline_at=row["deadline_at"],
        ),
        version=row["version"],
        warnings=tuple(row["warnings"]),
    )
