"""Short, allowed calls that only read, run by the activity that asked the model: a step is one activity then, not two.

Nothing else changes for them: the claim is committed (together with the answer) before a call begins, each has its row, its
events and its result. What does not go smoothly is given back, and the workflow has it run by `run_tool`.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from activities.persist import persist
from activities.tools.base import Arguments, Call, Tool
from activities.tools.registry import Registry
from conductor_ai.approvals import Effect, Policy, Subject
from conductor_ai.contracts.session import Fence
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import Queue, ToolResult
from conductor_ai.digest import NotCanonicalError, arguments_sha256
from conductor_ai.errors import Fenced, ToolUnavailable
from conductor_ai.stores.call_journal import CallJournal
from conductor_ai.stores.model_journal import BESIDE_THE_ANSWER
from conductor_ai.stores.transcript import StoredCall

log = logging.getLogger(__name__)

SHORT_SECONDS = 30.0
"""The longest limit of a call that is run here. A longer one is better seen, and retried, as an activity of its own."""
MARGIN_SECONDS = 5.0
"""What a tool gets beyond its own limit, to give back what it holds."""
TOGETHER = 8
"""Calls of one reply that are run here; a reply with more has them run by activities, which have their own slots."""
AT_ONCE = 100
"""Calls that a worker runs here at the same time."""


class InlineTools:
    """Runs calls right after the answer that made them."""

    def __init__(self, calls: CallJournal, registry: Registry, policy: Policy) -> None:
        self._calls = calls
        self._registry = registry
        self._policy = policy
        self._running = 0

    def chosen(self, calls: tuple[StoredCall, ...], session: Subject, *, seconds_left: float) -> frozenset[str]:
        """The ids of the calls of one reply that may be run here: all that can run at all, or none.

        `session`: what the policy knows beside the call.

        All or none, because a slow call must not hold up the question to a person about the one beside it.
        """
        ready = [call for call in calls if call.state is CallState.READY]
        if not 0 < len(ready) <= TOGETHER or self._running + len(ready) > AT_ONCE:
            return frozenset()
        if not all(self._suits(call, session, seconds_left) for call in ready):
            return frozenset()
        return frozenset(call.call_id for call in ready)

    def _suits(self, call: StoredCall, session: Subject, seconds_left: float) -> bool:
        limit = self._registry.timeout_seconds(call.tool, call.arguments)
        subject = replace(session, tool=call.tool, facts=call.facts, arguments=call.arguments)
        return (
            call.facts.replayable
            and not call.facts.writes
            and self._registry.queue(call.tool) is Queue.MAIN
            and limit <= SHORT_SECONDS
            and limit + MARGIN_SECONDS < seconds_left
            and self._policy.rule(subject).effect is Effect.ALLOW
        )

    async def run(self, fence: Fence, run_id: str, org_id: str, calls: Iterable[StoredCall]) -> dict[str, CallState]:
        """Run calls that were claimed with their answer, all at once. Returns what is stored of each that is settled.

        A cancel ends all of them before it goes on.
        """
        async with asyncio.TaskGroup() as group:
            tasks = {call.call_id: group.create_task(self._run(fence, run_id, org_id, call)) for call in calls}
        return {call_id: state for call_id, task in tasks.items() if (state := task.result()) is not None}

    async def _run(self, fence: Fence, run_id: str, org_id: str, call: StoredCall) -> CallState | None:
        context = Call(
            org_id=org_id,
            session_id=fence.session_id,
            call_id=call.call_id,
            run_id=run_id,
            attempt=BESIDE_THE_ANSWER,
            arguments_sha256=call.args_sha,
        )
        self._running += 1
        try:
            result = await self._result(call, context)
        finally:
            self._running -= 1
        if isinstance(result, str):
            await self._give_back(fence, run_id, call, result)
            return None
        state = CallState.SUCCEEDED if result.ok else CallState.FAILED
        return await persist(
            lambda: self._calls.settled(fence.session_id, run_id, BESIDE_THE_ANSWER, call.call_id, state, result)
        )

    async def _result(self, call: StoredCall, context: Call) -> ToolResult | str:
        """The result, or why there is none."""
        found = self._gate(call)
        if found is None:
            return "the stored call does not fit this worker's tool"
        tool, arguments = found
        limit = tool.timeout(arguments).total_seconds() + MARGIN_SECONDS
        try:
            async with asyncio.timeout(limit):
                return await tool.run(arguments, context)
        except ToolUnavailable as error:
            return error.message
        except TimeoutError:
            return "the tool did not keep its own time limit"
        except Exception:  # a tool's own mistake; as an activity of its own it is retried, and shown
            log.exception("%s (%s) met a fault beside the model's answer", call.call_id, call.tool)
            return "the tool met a fault of its own"

    def _gate(self, call: StoredCall) -> tuple[Tool[Arguments], Arguments] | None:
        """What runs is what is stored: the digest is computed again from the stored arguments."""
        try:
            if arguments_sha256(call.tool, call.arguments) != call.args_sha:
                return None
        except NotCanonicalError:
            return None
        return self._registry.arguments(call.tool, call.arguments)

    async def _give_back(self, fence: Fence, run_id: str, call: StoredCall, reason: str) -> None:
        """Make the call ready for `run_tool`, which follows at once."""
        try:
            await persist(
                lambda: self._calls.released(
                    fence, run_id, BESIDE_THE_ANSWER, call.call_id, next_at=datetime.now(UTC), reason=reason
                )
            )
        except Fenced:
            log.info("%s is not given back: its session has ended, or has another run", call.call_id)
