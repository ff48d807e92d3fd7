"""The activities `record` and `finish`: what is written where no model or tool activity writes."""

import asyncio
import logging

from temporalio import activity

from activities.boundary import sealed
from activities.tool import ToolActivities
from conductor_ai import ports
from conductor_ai.contracts.session import CallFailed, FinishInput, FinishOutcome, RecordInput, RecordOutcome
from conductor_ai.contracts.status import Status
from conductor_ai.errors import ConductorError
from conductor_ai.stores.call_changes import Changes
from conductor_ai.stores.ending import Ending
from conductor_ai.temporal import Engine

log = logging.getLogger(__name__)

LOOKUP_SECONDS = 3


class SnapshotActivities:
    """Writes changes and the end."""

    def __init__(self, changes: Changes, ending: Ending, tools: ToolActivities, engine: Engine) -> None:
        self._changes = changes
        self._ending = ending
        self._tools = tools
        self._engine = engine

    @activity.defn(name=ports.RECORD)
    @sealed
    async def record(self, request: RecordInput) -> RecordOutcome:
        """See `ports.record`."""
        outcome = await self._changes.record(request.fence, _run_id(), request.clock, request.changes)
        if any(isinstance(change, CallFailed) for change in request.changes):
            # Attempts that timed out may have had their effect; the ledger knows, and the model should be told.
            await self._look_up_unknown(request.fence.session_id)
        return outcome

    @activity.defn(name=ports.FINISH)
    @sealed
    async def finish(self, request: FinishInput) -> FinishOutcome:
        """See `ports.finish`."""
        session_id = request.fence.session_id
        outcome, _ = await self._ending.finish(request, _run_id())
        if outcome.unread is not None:
            return outcome
        if outcome.status is Status.CANCELLED and not request.cancel_seen:
            # The workflow can close CANCELED only if Temporal was asked too; whoever set the flag may have died before.
            await self._engine.cancel(session_id)
        await self._look_up_unknown(session_id)
        return outcome

    async def _look_up_unknown(self, session_id: str) -> None:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                await self._tools.find_out_unknown(session_id)
        except (ConductorError, TimeoutError) as error:
            log.info(
                "calls of %s with unknown outcome are left to the reconciler: %s", session_id, type(error).__name__
            )


def _run_id() -> str:
    run_id = activity.info().workflow_run_id
    assert run_id is not None
    return run_id
