"""The one way to change a session: lock its row, check the fence, change rows, append events, count the version up.

Activities run at least once, and late ones still write. The fence is the run id on the session's row: only the run
that Temporal calls the current one may write, and nobody after the end.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from conductor_ai.contracts.session import Fence
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.errors import Fenced, NotFound
from conductor_ai.stores.postgres import Connection, Database
from conductor_ai.text import clean_json

T = TypeVar("T")

CurrentRun = Callable[[str], Awaitable[str | None]]
"""Asks Temporal which run of a workflow id is the current one; None if it knows no such workflow."""


@dataclass(frozen=True)
class Committed:
    """What was committed, for those who keep copies."""

    org_id: str
    session_id: str
    version: int
    steps: int
    """Steps of the session before this change."""


class Announcer(Protocol):
    """Is told of every commit. A copy or a bell, never needed for correctness: it must not raise."""

    async def committed(self, commit: Committed, /) -> None:
        """Called after each commit that changed a session."""
        ...


class Silent:
    """An announcer that tells nobody."""

    async def committed(self, _commit: Committed, /) -> None:
        """Nobody listens."""


_PHASE = f"""
    CASE
      WHEN status IN ('completed', 'failed', 'cancelled') THEN '{Phase.DONE}'
      WHEN cancel_requested_at IS NOT NULL THEN '{Phase.CANCELLING}'
      WHEN status = 'pending' THEN '{Phase.QUEUED}'
      WHEN EXISTS (SELECT FROM conductor.approvals a WHERE a.session_id = s.id AND a.status = 'pending')
        THEN '{Phase.AWAITING_APPROVAL}'
      WHEN paused IS NOT NULL THEN '{Phase.PAUSED}'
      WHEN awaiting_input THEN '{Phase.AWAITING_INPUT}'
      WHEN retry IS NOT NULL THEN '{Phase.RETRYING}'
      WHEN EXISTS (SELECT FROM conductor.tool_calls t WHERE t.session_id = s.id AND t.call_no = s.last_call_no
                   AND NOT t.superseded AND t.state IN ('ready', 'waiting', 'executing')) THEN '{Phase.CALLING_TOOL}'
      ELSE '{Phase.THINKING}'
    END"""
"""The phase is derived from the rows under the lock, so that it can never disagree with them."""


_FLUSH = f"""
    WITH written AS (
      INSERT INTO conductor.events (session_id, seq, type, dedupe, body)
      SELECT $1, $2 + item.number, item.event ->> 0, item.event ->> 1, item.event -> 2
      FROM jsonb_array_elements($4::jsonb) WITH ORDINALITY AS item (event, number)
    )
    UPDATE conductor.sessions s SET version = $3, updated_at = clock_timestamp(), phase = {_PHASE} WHERE id = $1
"""
"""Events and version in one round trip. The phase sees what earlier statements of the transaction wrote."""

_LOCK = """
    SELECT id, org_id, status, run_id, start_state, version, steps, last_call_no, cost_usd, retry, cancel_requested_at,
      stop_reason, error, awaiting_input
    FROM conductor.sessions WHERE id = $1 FOR NO KEY UPDATE
"""
"""Without what may be large (prompt, input, answer): every write begins with this."""


class Writer:
    """The writes of one transaction on one session. Made by `locked`; events are appended by `flush`."""

    def __init__(self, connection: Connection, row: Any) -> None:
        self.connection = connection
        self.row = row
        """The session's row as it was when it was locked."""
        self._events: list[tuple[str, str | None, Any]] = []

    @property
    def session_id(self) -> str:
        """The session that is locked."""
        return str(self.row["id"])

    @property
    def ended(self) -> bool:
        """True if the session had ended when it was locked."""
        return Status(self.row["status"]).ended

    def event(self, kind: str, body: dict[str, Any], *, dedupe: str | None = None) -> None:
        """Append an event. Exactly the writes that changed something append one."""
        self._events.append((kind, dedupe, clean_json(body)))

    async def update(self, assignments: str, *values: Any) -> None:
        """Set columns of the session's row; `$1` is taken by the id."""
        await self.connection.execute(
            f"UPDATE conductor.sessions SET {assignments} WHERE id = $1", self.session_id, *values
        )

    async def no_retry(self, call_id: str) -> None:
        """Say that this call waits for no further attempt. Another one that does stays as it is."""
        if (self.row["retry"] or {}).get("call_id") == call_id:
            await self.update("retry = NULL")

    async def flush(self) -> Committed | None:
        """Write events and version. None if nothing changed."""
        if not self._events:
            return None
        version = self.row["version"] + len(self._events)
        await self.connection.execute(_FLUSH, self.session_id, self.row["version"], version, self._events)
        return Committed(self.row["org_id"], self.session_id, version, self.row["steps"])


async def locked(connection: Connection, session_id: str) -> Writer:
    """Lock a session's row for this transaction.

    Raises:
        NotFound: there is no such session.
    """
    row = await connection.fetchrow(_LOCK, session_id)
    if row is None:
        raise NotFound("There is no such session.")
    return Writer(connection, row)


class _AnotherRunError(Exception):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id


async def _claim(writer: Writer, fence: Fence, run_id: str) -> None:
    """Make `run_id` the session's run, and supersede what this run will do again."""
    if writer.row["run_id"] is None:
        await _begin(writer, fence, run_id)
        writer.event("session.started", {"run_id": run_id}, dedupe="started")
        return
    connection = writer.connection
    superseded = await connection.fetch(
        "UPDATE conductor.model_calls SET superseded = true WHERE session_id = $1 AND call_no >= $2 AND NOT superseded "
        "RETURNING call_no",
        fence.session_id,
        fence.next_call_no,
    )
    if superseded:
        await connection.execute(
            "UPDATE conductor.tool_calls SET superseded = true WHERE session_id = $1 AND call_no >= $2 AND NOT superseded",
            fence.session_id,
            fence.next_call_no,
        )
        await connection.execute(
            "UPDATE conductor.approvals a SET status = 'superseded', closed_at = clock_timestamp() FROM conductor.tool_calls t "
            "WHERE a.session_id = $1 AND a.status = 'pending' AND t.call_id = a.call_id AND t.superseded",
            fence.session_id,
        )
    # Whoever replays the notice of a message reads it again; one that nobody announces again is read all the same.
    await connection.execute(
        "UPDATE conductor.messages SET call_no = NULL WHERE session_id = $1 AND call_no >= $2",
        fence.session_id,
        max(fence.next_call_no, 1),
    )
    await _begin(writer, fence, run_id)
    writer.event("session.claimed", {"run_id": run_id, "superseded_calls": sorted({r["call_no"] for r in superseded})})


async def _begin(writer: Writer, fence: Fence, run_id: str) -> None:
    await writer.update(
        "run_id = $2, clock = 0, retry = NULL, paused = NULL, status = 'running', started_at = coalesce(started_at, clock_timestamp()), "
        "last_call_no = least(last_call_no, $3), start_state = 'started', "
        "steps = (SELECT count(DISTINCT step) FROM conductor.model_calls WHERE session_id = $1 AND NOT superseded AND counts)",
        run_id,
        fence.next_call_no - 1,
    )


class Journal:
    """Writes of the workflow's side, each behind the fence."""

    def __init__(self, database: Database, current_run: CurrentRun, announcer: Announcer | None = None) -> None:
        self.database = database
        self._current_run = current_run
        self._announcer = announcer or Silent()

    async def write(self, fence: Fence, run_id: str, change: Callable[[Writer], Awaitable[T]]) -> T:
        """Run `change` in one transaction, behind the fence. It may be run again from its start.

        A run that meets another run's id on the row asks Temporal which of the two is current, without holding the
        lock, and then takes the row over by compare-and-set.

        Raises:
            Fenced: this run is not the current one, or the session has ended.
            Unavailable: Postgres or Temporal is away.
        """
        replaceable: str | None = None
        while True:
            try:
                async with self.database.transaction() as connection:
                    writer = await locked(connection, fence.session_id)
                    if writer.ended:
                        raise Fenced("The session has ended; nothing more is written to it.")
                    await self._enter(writer, fence, run_id, replaceable)
                    result = await change(writer)
                    commit = await writer.flush()
            except _AnotherRunError as other:
                if await self._current_run(fence.session_id) != run_id:
                    raise Fenced("Another run of this session's workflow is the current one.") from None
                replaceable = other.run_id
                continue
            if commit is not None:
                await self._announcer.committed(commit)
            return result

    async def write_unfenced(self, session_id: str, change: Callable[[Writer], Awaitable[T]]) -> T:
        """Run `change` in one transaction without asking who writes: for what is true whoever says it.

        Raises:
            NotFound: there is no such session.
            Unavailable: Postgres is away.
        """
        async with self.database.transaction() as connection:
            writer = await locked(connection, session_id)
            result = await change(writer)
            commit = await writer.flush()
        if commit is not None:
            await self._announcer.committed(commit)
        return result

    @staticmethod
    async def _enter(writer: Writer, fence: Fence, run_id: str, replaceable: str | None) -> None:
        holder = writer.row["run_id"]
        if holder == run_id:
            return
        if holder is not None and holder != replaceable:
            raise _AnotherRunError(holder)
        await _claim(writer, fence, run_id)
