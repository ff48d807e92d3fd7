"""The reconciler of every worker: sessions that Temporal ended, or never started, without us; and those that are kept long enough."""

import asyncio
import logging

from temporalio.client import WorkflowExecutionStatus

from activities.retention import Retention
from activities.tool import ToolActivities
from conductor_ai.contracts.status import StopReason
from conductor_ai.errors import Code, ConductorError, Unavailable
from conductor_ai.stores.ending import End, Ending
from conductor_ai.stores.sessions import OpenSession, Sessions
from conductor_ai.temporal import Engine

log = logging.getLogger(__name__)

IN_VAIN_MAX = 3
"""Sessions in a row that could not be asked about: then Temporal is away, and each further one would wait in vain."""

_OVER = {
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "cancelled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed out",
}
"""Statuses that end a workflow. CONTINUED_AS_NEW is not one: the next run is the session's."""


class Reconciler:
    """Compares the rows of open sessions with what Temporal says of them."""

    def __init__(
        self,
        sessions: Sessions,
        ending: Ending,
        tools: ToolActivities,
        engine: Engine,
        seconds: float,
        retention: Retention | None = None,
    ) -> None:
        self._sessions = sessions
        self._ending = ending
        self._tools = tools
        self._engine = engine
        self._seconds = seconds
        self._retention = retention

    async def run(self) -> None:
        """Look every `seconds`, until cancelled. A round that fails is logged and repeated."""
        while True:
            try:
                await self.round()
                if self._retention is not None:
                    await self._retention.round()
            except ConductorError as error:
                log.warning("this round of reconciling was cut short: %s", error.message)
            except Exception:
                log.exception("this round of reconciling met a fault")
            await asyncio.sleep(self._seconds)

    async def round(self) -> int:
        """Look once. Returns the number of sessions that were mended. A session that cannot be mended stops no other.

        Raises:
            Unavailable: Postgres or Temporal is away.
        """
        mended, in_vain = 0, 0
        await self._sessions.forget_keys()
        for session in await self._sessions.open_sessions(older_than_seconds=self._seconds):
            try:
                mended += await self._look(session)
                in_vain = 0
            except Unavailable:
                in_vain += 1
                if in_vain == IN_VAIN_MAX:
                    raise
            except Exception:
                log.exception("session %s cannot be reconciled", session.session_id)
        for session_id in await self._sessions.with_unknown_calls():
            mended += await self._tools.find_out_unknown(session_id)
        return mended

    async def _look(self, session: OpenSession) -> bool:
        state = await self._engine.state(session.session_id)
        if state is None:
            return await self._never_started(session)
        _, status = state
        if status is None or status not in _OVER:
            if session.start_state == "starting":
                await self._sessions.mark_started(session.session_id)
            if session.cancel_requested:
                await self._engine.cancel(session.session_id)
            return False
        reason = StopReason.CANCELLED if status is WorkflowExecutionStatus.CANCELED else StopReason.ERROR
        end = End(
            reason,
            Code.TERMINATED,
            f"The session's workflow was {_OVER[status]} in Temporal without writing its end. What it had done is kept.",
        )
        log.info("session %s: its workflow was %s; the end is written now", session.session_id, _OVER[status])
        return await self._ending.force(session.session_id, end, expected_run=session.run_id) is not None

    async def _never_started(self, session: OpenSession) -> bool:
        if session.run_id is not None:
            end = End(
                StopReason.ERROR,
                Code.TERMINATED,
                "Temporal no longer knows the session's workflow (deleted, or past its retention). What it had done is kept.",
            )
            return await self._ending.force(session.session_id, end, expected_run=session.run_id) is not None
        if session.keyed and not session.cancel_requested:
            # The caller holds a key and will ask again, or has been told to: the start is theirs, only late.
            await self._engine.start(session.input)
            await self._sessions.mark_started(session.session_id)
            return True
        reason = StopReason.CANCELLED if session.cancel_requested else StopReason.ERROR
        end = End(
            reason,
            Code.ABANDONED,
            "The session was never started: Temporal was away when it was asked for. Start it again.",
            retryable=True,
        )
        return await self._ending.abandon(session.session_id, end) is not None
