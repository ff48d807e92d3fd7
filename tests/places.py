"""The store without Temporal: sessions, runs and calls as the activities see them, with the current run set by hand."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from temporalio.testing import ActivityEnvironment

from conductor_ai.contracts.decisions import Decision
from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop, Usage
from conductor_ai.contracts.policy import OnExpiry
from conductor_ai.contracts.session import Fence, FinishInput, SessionInput
from conductor_ai.contracts.status import CallState, StopReason
from conductor_ai.contracts.tools import Consequence, Facts
from conductor_ai.contracts.views import SessionView
from conductor_ai.digest import arguments_sha256
from conductor_ai.names import new_id
from conductor_ai.stores.attempts import Attempt
from conductor_ai.stores.call_changes import Changes
from conductor_ai.stores.call_journal import Asking, CallJournal
from conductor_ai.stores.deciding import Intentions
from conductor_ai.stores.ending import Ending
from conductor_ai.stores.model_journal import Answer, ModelJournal
from conductor_ai.stores.postgres import Connection, Database
from conductor_ai.stores.sessions import Message, NewSession, Sessions
from conductor_ai.stores.snapshots import Snapshots
from conductor_ai.stores.transcript import StoredCall
from conductor_ai.stores.writing import Announcer, Journal
from tests.fixtures_servers import wait_until

T = TypeVar("T")

ORG = "org_test"
READS = Facts(replayable=True)
WRITES = Facts(writes=True)
WRITES_ONCE = Facts(writes=True, replayable=True)


def call(tool: str = "web_fetch", facts: Facts = READS, state: CallState = CallState.READY, **more: Any) -> StoredCall:
    """One call of a model, validated."""
    arguments = more.pop("arguments", {"text": "x"})
    return StoredCall(
        call_id=new_id("call"),
        provider_id=more.pop("provider_id", "toolu_1"),
        tool=tool,
        arguments=arguments,
        args_sha=arguments_sha256(tool, arguments),
        facts=facts,
        state=state,
        **more,
    )


def decision_of(stored: StoredCall, kind: Any = "approve", **more: Any) -> Decision:
    """A decision that the workflow accepted."""
    return Decision.model_validate(
        {
            "call_id": stored.call_id,
            "decision_id": new_id("dec"),
            "decision": kind,
            "arguments_sha256": stored.args_sha,
            "by": "a person",
            "verified": True,
            "via": "api",
            "at": datetime.now(UTC),
            **more,
        }
    )


def asking(stored: StoredCall, consequence: Consequence | None = None, **more: Any) -> Asking:
    """A call as people are asked about it."""
    given: dict[str, Any] = {
        "round": 1,
        "expires_at": datetime.now(UTC) + timedelta(hours=1),
        "on_expiry": OnExpiry.EXPIRE,
        "rule": "a rule",
        **more,
    }
    return Asking(stored, consequence=consequence or Consequence(summary="It happens."), **given)


@dataclass
class Place:
    """A database, and a Temporal that says whatever `current` says."""

    database: Database
    announcer: Announcer | None = None
    current: dict[str, str] = field(default_factory=dict)
    """The run that Temporal would call the current one, by session."""
    asked: list[str] = field(default_factory=list)
    """Sessions about which Temporal was asked."""

    def __post_init__(self) -> None:
        self.journal = Journal(self.database, self._current_run, self.announcer)
        self.models = ModelJournal(self.journal)
        self.calls = CallJournal(self.journal)
        self.changes = Changes(self.journal)
        self.intentions = Intentions(self.database)
        self.ending = Ending(self.journal)
        self.sessions = Sessions(self.journal)
        self.snapshots = Snapshots(self.database)

    async def _current_run(self, session_id: str) -> str | None:
        self.asked.append(session_id)
        return self.current.get(session_id)

    async def session(self, **options: Any) -> str:
        """A session as the API makes one, started, not yet claimed."""
        session_id = new_id("sess")
        given = {"session_id": session_id, "org_id": ORG, "model": "demo", "tools": ("web_fetch", "sql_query")}
        source = SessionInput.model_validate({**given, "max_steps": 10, **options})
        await self.sessions.create(NewSession(source, (Message("user", "Do it."),), title="A test"), None)
        return session_id

    async def answered(
        self, session_id: str, run_id: str, call_no: int, *calls: StoredCall, sha: str = "", **more: Any
    ) -> Answer:
        """Store an answer with these calls, as `call_model` does."""
        reply = more.pop("reply", None) or ModelReply(
            stop=Stop.TOOL_CALLS if calls else Stop.END,
            text="I think.",
            calls=tuple(ProposedCall(provider_id=c.provider_id, tool=c.tool, arguments=c.arguments) for c in calls),
            usage=Usage(input=10, output=5),
        )
        return await self.models.answered(
            Fence(session_id=session_id, next_call_no=call_no),
            run_id,
            attempt(call_no, number=more.pop("number", 1)),
            input_sha=sha or f"sha of {call_no}",
            reply=reply,
            calls=calls,
            started_at=datetime.now(UTC),
            latency_ms=1,
            **more,
        )

    async def asked_about(self, session_id: str, run_id: str, stored: StoredCall, *, call_no: int = 1) -> str:
        """Put a call before people. Returns the approval's id."""
        expires = datetime.now(UTC) + timedelta(hours=1)
        fence = Fence(session_id=session_id, next_call_no=call_no + 1)
        prepared = await self.calls.ask(fence, run_id, asking(stored, expires_at=expires))
        assert prepared.approval_id is not None
        return prepared.approval_id

    async def finish(
        self, session_id: str, run_id: str, reason: StopReason = StopReason.FINAL_ANSWER, **more: Any
    ) -> Any:
        """End the session as `finish` does."""
        request = FinishInput(fence=Fence(session_id=session_id, next_call_no=99), stop_reason=reason, **more)
        outcome, _ = await self.ending.finish(request, run_id)
        return outcome

    async def view(self, session_id: str) -> SessionView:
        """The session as the API shows it."""
        found = await self.snapshots.build(ORG, session_id)
        assert found is not None
        return found

    async def value(self, sql: str, *values: Any) -> Any:
        """One value of the database."""
        async with self.database.connection() as connection:
            return await connection.fetchval(sql, *values)

    async def events(self, session_id: str) -> list[tuple[int, str]]:
        """Number and type of every event, in order."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT seq, type FROM conductor.events WHERE session_id = $1 ORDER BY seq", session_id
            )
        return [(row["seq"], row["type"]) for row in rows]

    async def state_of(self, stored: StoredCall) -> str:
        """The state of a call's row."""
        return str(await self.value("SELECT state FROM conductor.tool_calls WHERE call_id = $1", stored.call_id))

    async def status_of(self, approval_id: str) -> str:
        """The status of an approval's row."""
        return str(await self.value("SELECT status FROM conductor.approvals WHERE id = $1", approval_id))

    async def blocked(self, pid: int, by: int) -> None:
        """Wait until one backend waits for a lock that another one holds."""

        async def waits() -> bool:
            return by in await self.value("SELECT pg_blocking_pids($1)", pid)

        await wait_until(waits, f"backend {pid} to wait for {by}")


def attempt(call_no: int, *, number: int = 1, outcome: str = "end", cost: str = "0.01") -> Attempt:
    """One attempt at a model call."""
    return Attempt(
        call_no=call_no,
        step=call_no,
        attempt=number,
        model="demo",
        outcome=outcome,
        usage=Usage(input=10, output=5),
        cost_usd=Decimal(cost),
    )


def fence(session_id: str, next_call_no: int = 2) -> Fence:
    """The place of a writer."""
    return Fence(session_id=session_id, next_call_no=next_call_no)


async def backend(connection: Connection) -> int:
    """The process id of a connection's backend."""
    return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def as_activity(
    function: Callable[[Any], Awaitable[T]], request: Any, *, run_id: str, attempt: int = 1, **hooks: Any
) -> T:
    """Run an activity's function as that attempt of that run."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        workflow_run_id=run_id,
        attempt=attempt,
        started_time=datetime.now(UTC),
        start_to_close_timeout=timedelta(minutes=10),
    )
    if "on_heartbeat" in hooks:
        environment.on_heartbeat = hooks["on_heartbeat"]
    return await environment.run(function, request)
