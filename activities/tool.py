"""The activities `prepare_call` and `run_tool`: a call is gated, claimed before its effect, run once, settled once."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.boundary import sealed
from activities.heartbeat import beating
from activities.persist import persist
from activities.references import call_ref
from activities.tools.base import Arguments, Call, NotExecuted, Tool
from activities.tools.registry import Registry
from conductor_ai import ports
from conductor_ai.approvals import Effect, Policy, Subject
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import ProposedCall
from conductor_ai.contracts.session import CallRef, Prepared, PrepareInput, ReviseInput, ToolInput, ToolOutcome
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import Column, Consequence, ToolError, ToolResult
from conductor_ai.digest import NotCanonicalError, arguments_sha256
from conductor_ai.errors import Code, ToolUnavailable
from conductor_ai.stores.call_journal import Asking, CallJournal, CallOfSession, NotClaimed, RevisedCall
from conductor_ai.stores.call_words import outcome_unknown
from conductor_ai.stores.ending import Ending
from conductor_ai.stores.transcript import StoredCall

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""The workflow allows as many; the last one gives up."""
PREPARE_SECONDS = 60
OUTCOME_SECONDS = 10
BEFORE_SECONDS = 5
"""How long the store may be away before an attempt gives way to the next one: the tool needs the time that is left."""


def _final(message: str, code: str) -> ApplicationError:
    return ApplicationError(message, type=code, non_retryable=True)


class ToolActivities:
    """Runs tools for sessions."""

    def __init__(self, calls: CallJournal, ending: Ending, registry: Registry, policy: Policy) -> None:
        self._calls = calls
        self._ending = ending
        self._registry = registry
        self._policy = policy

    @activity.defn(name=ports.PREPARE_CALL)
    @sealed
    async def prepare_call(self, request: PrepareInput) -> Prepared:
        """See `ports.prepare_call`."""
        run_id = _run_id()
        async with beating():
            found = await self._load(request.fence.session_id, request.call_id)
            call = found.call
            if call.round > request.round:
                return Prepared(state="moved", call=self._ref(found, call))
            tool, arguments = self._gate(call, request.arguments_sha256)
            known = True
            try:
                async with asyncio.timeout(PREPARE_SECONDS):
                    consequence = await tool.prepare(
                        arguments, _call(found.org_id, request.fence.session_id, call, run_id)
                    )
            except (ToolUnavailable, TimeoutError) as error:
                why = error.message if isinstance(error, ToolUnavailable) else "looking it up took too long"
                consequence, known = _not_available(call, why), False
            except Exception:  # a tool's own mistake; people can still decide, and a retry would only repeat it
                log.exception("the consequence of %s (%s) could not be looked up", call.call_id, call.tool)
                consequence, known = _not_available(call, "looking it up failed"), False
            asking = Asking(
                call,
                request.round,
                consequence,
                request.expires_at,
                request.on_expiry,
                request.rule,
                # What nobody could look up, or a session that wants to be asked about everything, is for a person.
                grants=known and not found.ask_every_call,
            )
            return await self._calls.ask(request.fence, run_id, asking)

    @activity.defn(name=ports.REVISE_CALL)
    @sealed
    async def revise_call(self, request: ReviseInput) -> CallRef:
        """See `ports.revise_call`."""
        run_id, session_id = _run_id(), request.fence.session_id
        found = await self._load(session_id, request.decision.call_id)
        stored = await self._calls.revise(request.fence, run_id, request.round, request.decision, self._revised)
        return self._ref(found, stored)

    def _ref(self, found: CallOfSession, call: StoredCall) -> CallRef:
        return call_ref(call, self._registry, self._policy, _subject(found, call))

    def _revised(self, tool: str, arguments: JsonObject) -> RevisedCall:
        checked = self._registry.check(ProposedCall(provider_id="", tool=tool, arguments=arguments), (tool,))
        problem = None if checked.refused is None else checked.refused.content
        return RevisedCall(checked.arguments, checked.sha256, checked.facts, problem)

    @activity.defn(name=ports.RUN_TOOL)
    @sealed
    async def run_tool(self, request: ToolInput) -> ToolOutcome:
        """See `ports.run_tool`."""
        info = activity.info()
        run_id = _run_id()
        session_id = request.fence.session_id
        async with beating():
            found = await self._load(session_id, request.call_id)
            call = found.call
            if call.round != request.round:
                # An attempt or a run before this one found that people have to be asked again.
                state = call.state if call.state.settled else CallState.READY
                return ToolOutcome(call_id=call.call_id, state=state, round=call.round, call=self._ref(found, call))
            tool, arguments = self._gate(call, request.arguments_sha256)
            ruling = self._policy.rule(replace(_subject(found, call), facts=tool.facts(arguments)))
            if ruling.effect is Effect.DENY:
                raise _final(f"The policy does not allow this call ({ruling.rule}).", Code.FORBIDDEN)
            must_be_approved = ruling.effect is Effect.ASK or found.ask_every_call or request.decision is not None
            asked = count()
            claim = await persist(
                lambda: self._calls.claim(
                    request.fence,
                    run_id,
                    info.attempt,
                    call.call_id,
                    decision=request.decision,
                    must_be_approved=must_be_approved,
                    round_=request.round,
                    repeated=next(asked) > 0,
                ),
                seconds=BEFORE_SECONDS,
            )
            if isinstance(claim, NotClaimed):
                return await self._not_claimed(found.org_id, request, claim, run_id)
            context = Call(
                org_id=found.org_id,
                session_id=session_id,
                call_id=call.call_id,
                run_id=run_id,
                attempt=info.attempt,
                arguments_sha256=call.args_sha,
                approved=must_be_approved,
                seen=claim.seen,
            )
            try:
                result = await tool.run(arguments, context)
            except ToolUnavailable as error:
                raise await self._unavailable(request, run_id, info.attempt, error) from error
            return await self._settle(session_id, run_id, info.attempt, call, result)

    async def _load(self, session_id: str, call_id: str) -> CallOfSession:
        return await persist(lambda: self._calls.load(session_id, call_id), seconds=BEFORE_SECONDS)

    def _gate(self, call: StoredCall, sha256: str) -> tuple[Tool[Any], Arguments]:
        """The stored call must be the one that was named, and must still fit the tool."""
        try:
            stored_sha256 = arguments_sha256(call.tool, call.arguments)
        except NotCanonicalError:
            stored_sha256 = None
        if not call.args_sha == sha256 == stored_sha256:
            raise _final(
                "The stored call is not the one that was decided about; nothing was run.", Code.DIGEST_MISMATCH
            )
        found = self._registry.arguments(call.tool, call.arguments)
        if found is None:
            raise _final(
                f"This worker has no tool {call.tool!r} that takes these arguments; it may have been removed or changed.",
                Code.TOOL_UNAVAILABLE,
            )
        return found

    async def _not_claimed(self, org_id: str, request: ToolInput, claim: NotClaimed, run_id: str) -> ToolOutcome:
        call, session_id = claim.call, request.fence.session_id
        if call.state.settled:
            return ToolOutcome(call_id=call.call_id, state=call.state)
        if not claim.executing and request.decision is None:
            # The policy asks by now, and it did not when the call was proposed.
            return ToolOutcome(call_id=call.call_id, state=CallState.READY, round=call.round)
        if not claim.executing:
            raise _final("This call needs an approval of exactly these arguments, and none is stored.", Code.FORBIDDEN)
        state, result = await self._find_out(_call(org_id, session_id, call, run_id), call)
        stored = await persist(lambda: self._calls.resolved(session_id, call.call_id, state, result))
        return ToolOutcome(call_id=call.call_id, state=stored)

    async def _find_out(self, context: Call, call: StoredCall) -> tuple[CallState, ToolResult]:
        """What became of a call whose worker died in the middle, as far as anybody can know."""
        tool = self._registry.get(call.tool)
        found: ToolResult | NotExecuted | None = None
        if tool is not None:
            try:
                async with asyncio.timeout(OUTCOME_SECONDS):
                    found = await tool.outcome(context)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the session from its end
                log.warning("the outcome of %s cannot be looked up now: %s", call.call_id, type(error).__name__)
        match found:
            case ToolResult():
                return (CallState.SUCCEEDED if found.ok else CallState.FAILED), found
            case NotExecuted():
                message = (
                    "The call was interrupted before it took effect: nothing was changed. Propose it again if needed."
                )
                return CallState.FAILED, ToolResult(
                    ok=False, content=message, error=ToolError(code="not_executed", message=message)
                )
            case None:
                return CallState.OUTCOME_UNKNOWN, outcome_unknown()

    async def find_out_unknown(self, session_id: str) -> int:
        """Settle the calls of an ended session whose outcome was not known, where it can be known now. Returns how many."""
        settled = 0
        for org_id, call in await self._ending.unknown_calls(session_id):
            state, result = await self._find_out(_call(org_id, session_id, call, ""), call)
            if state is not CallState.OUTCOME_UNKNOWN:
                await self._calls.resolved(session_id, call.call_id, state, result)
                settled += 1
        return settled

    async def _unavailable(
        self, request: ToolInput, run_id: str, attempt: int, error: ToolUnavailable
    ) -> ApplicationError:
        last = attempt >= ATTEMPTS
        delay = timedelta(seconds=2.0 ** (attempt - 1))
        next_at = None if last else datetime.now(UTC) + delay
        await persist(
            lambda: self._calls.released(
                request.fence, run_id, attempt, request.call_id, next_at=next_at, reason=error.message
            )
        )
        return ApplicationError(
            error.message, type=Code.TOOL_UNAVAILABLE, non_retryable=last, next_retry_delay=None if last else delay
        )

    async def _settle(
        self, session_id: str, run_id: str, attempt: int, call: StoredCall, result: ToolResult
    ) -> ToolOutcome:
        if result.ask_again:
            state, round_ = await persist(lambda: self._calls.again(session_id, run_id, attempt, call.call_id, result))
            return ToolOutcome(call_id=call.call_id, state=state, round=round_)
        state = CallState.SUCCEEDED if result.ok else CallState.FAILED
        if result.error is not None and result.error.code == CallState.OUTCOME_UNKNOWN:
            state = CallState.OUTCOME_UNKNOWN
        stored = await persist(lambda: self._calls.settled(session_id, run_id, attempt, call.call_id, state, result))
        return ToolOutcome(call_id=call.call_id, state=stored, bytes=len(result.content))


def _not_available(call: StoredCall, why: str) -> Consequence:
    return Consequence(
        summary=f"Runs {call.tool} with the arguments shown.",
        risk="high",
        evidence=(Column(label="Effect", value=f"not available: {why}"),),
    )


def _subject(found: CallOfSession, call: StoredCall) -> Subject:
    return Subject(call.tool, call.facts, call.arguments, found.model, found.org_id, found.cost_usd)


def _run_id() -> str:
    run_id = activity.info().workflow_run_id
    assert run_id is not None
    return run_id


def _call(org_id: str, session_id: str, call: StoredCall, run_id: str) -> Call:
    """A call that is looked at and not run."""
    return Call(
        org_id=org_id,
        session_id=session_id,
        call_id=call.call_id,
        run_id=run_id,
        attempt=1,
        arguments_sha256=call.args_sha,
    )
