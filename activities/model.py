"""The activity `call_model`: look into the journal first, ask once, write what was paid, return what is stored."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.boundary import sealed
from activities.compaction import context_share, summary_request, without_calls
from activities.deltas import DeltaListener
from activities.heartbeat import beating
from activities.inline_tools import InlineTools
from activities.outputs import with_output
from activities.persist import persist
from activities.providers.base import Factory, Provider
from activities.providers.history import own_native
from activities.references import call_ref
from activities.retries import delay_before
from activities.tools.registry import Checked, Registry, surplus
from conductor_ai import catalog, ports
from conductor_ai.approvals import Policy, Subject
from conductor_ai.compaction import usable
from conductor_ai.contracts.models import ModelReply, ModelRequest, ProposedCall, Stop, Usage
from conductor_ai.contracts.session import CallRef, ModelFailed, ModelInput, ModelOutcome, Tally
from conductor_ai.contracts.status import CallState
from conductor_ai.costs import cost_of
from conductor_ai.digest import text_sha256
from conductor_ai.errors import Code, Fenced, InvalidRequest, ModelFailure, Unavailable
from conductor_ai.names import new_id
from conductor_ai.stores.attempts import Attempt
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.model_journal import Answer, ModelJournal
from conductor_ai.stores.transcript import Conversation, StoredCall
from conductor_ai.text import clean_json, first_line

log = logging.getLogger(__name__)

SAID_CHARACTERS = 200
MOST_CALLS = 64
"""Calls of one reply that are run. More would not fit what Temporal takes of an activity."""
RUNNABLE = (Stop.END, Stop.TOOL_CALLS)
"""Only in these replies are calls complete. A call in a reply that was cut may be half of one."""


class ModelActivities:
    """Calls models for sessions."""

    def __init__(
        self,
        journal: ModelJournal,
        registry: Registry,
        policy: Policy,
        inline: InlineTools,
        factories: Mapping[str, Factory],
        hot: Hot,
    ) -> None:
        self._journal = journal
        self._registry = registry
        self._policy = policy
        self._inline = inline
        self._factories = factories
        self._providers: dict[str, Provider] = {}
        self._hot = hot

    @activity.defn(name=ports.CALL_MODEL)
    @sealed
    async def call_model(self, request: ModelInput) -> ModelOutcome:
        """See `ports.call_model`."""
        run_id = activity.info().workflow_run_id
        assert run_id is not None
        try:
            return await self._answered(request, run_id)
        except Fenced:
            # An earlier attempt may have stored the answer, which ended the session, and its completion was lost.
            async with beating():
                stored = await persist(lambda: self._journal.last(request.fence.session_id, run_id, request.call_no))
            if stored is None:
                raise
            return self._outcome(request, stored, ())

    async def _answered(self, request: ModelInput, run_id: str) -> ModelOutcome:
        gone: tuple[str, ...] = ()
        async with beating() as beat:
            if request.messages:
                read = await persist(
                    lambda: self._journal.read_messages(request.fence, run_id, request.call_no, request.messages)
                )
                gone = read.gone
                if request.only_messages and not read.unanswered:
                    return ModelOutcome(stop=Stop.END, asked=False, gone=gone)
            found = await persist(lambda: self._journal.begin(request.fence, run_id, request.call_no))
            if isinstance(found, Answer):
                return self._outcome(request, found, gone)
            if found.cancel_requested:
                # Whoever set the flag may have died before Temporal was told: the end sees to that.
                raise Fenced("A cancel was accepted; no model is asked any more.")
            if (fell_back := request.fell_back) is not None:
                await persist(lambda: self._journal.fell_back(request, fell_back, run_id))
            beat.doing = f"asks {request.model}"
            answer = await self._ask(request, run_id, found)
            if answer.claimed:
                beat.doing = f"runs {', '.join(call.tool for call in answer.calls if call.call_id in answer.claimed)}"
                answer = await self._run_claimed(request, run_id, found.org_id, answer)
            if not answer.calls and request.compact is None:
                self._journal.forget(request.fence.session_id)
            return self._outcome(request, answer, gone)

    async def close(self) -> None:
        """Close the providers that were opened."""
        for provider in self._providers.values():
            await provider.close()

    async def _ask(self, request: ModelInput, run_id: str, conversation: Conversation) -> Answer:
        started_at = datetime.now(UTC)
        turns = conversation.turns
        if not conversation.native_models <= {request.model}:
            turns = own_native(turns, request.model)
        # Not validated: every turn was when it was made, and there may be ten thousand.
        asked = ModelRequest.model_construct(
            model=request.model,
            system=conversation.system,
            turns=turns,
            tools=self._registry.specs(conversation.tools),
            step=request.step,
            output_schema=conversation.output_schema,
        )
        if request.compact is not None:
            asked = summary_request(request, conversation, request.compact)
        input_sha = text_sha256(asked.model_dump_json(exclude={"turns"}) + conversation.turns_sha256)
        session_id = request.fence.session_id
        before = time.monotonic()
        left_behind = None
        if conversation.set_back:
            left_behind = await persist(lambda: self._journal.reusable(session_id, input_sha))
        if left_behind is not None:
            reply, calls = left_behind.reply, left_behind.calls
            attempt = self._attempt(request, "reused", Usage())
        else:
            reply, attempt = await self._complete(request, run_id, conversation, asked)
            calls = self._calls(reply, conversation.tools)
        latency_ms = int((time.monotonic() - before) * 1000)
        claim: frozenset[str] = frozenset()
        if request.run_calls:
            session = Subject("", model=request.model, org_id=conversation.org_id, cost_usd=conversation.cost_usd)
            claim = self._inline.chosen(calls, session, seconds_left=_seconds_left())
        return await persist(
            lambda: self._journal.answered(
                request.fence,
                run_id,
                attempt,
                input_sha=input_sha,
                reply=reply,
                calls=calls,
                started_at=started_at,
                latency_ms=latency_ms,
                reused=left_behind is not None,
                claim=claim,
                summary_of=None if request.compact is None else len(conversation.turns),
                may_end=request.may_end,
            )
        )

    async def _run_claimed(self, request: ModelInput, run_id: str, org_id: str, answer: Answer) -> Answer:
        """Run the calls that were claimed with the answer. Those that are given back stay `ready` for `run_tool`."""
        claimed = [call for call in answer.calls if call.call_id in answer.claimed]
        states = await self._inline.run(request.fence, run_id, org_id, claimed)
        calls = (replace(call, state=states.get(call.call_id, call.state)) for call in answer.calls)
        return replace(answer, calls=tuple(calls))

    async def _complete(
        self, request: ModelInput, run_id: str, conversation: Conversation, asked: ModelRequest
    ) -> tuple[ModelReply, Attempt]:
        session_id, number = request.fence.session_id, activity.info().attempt
        async with AsyncExitStack() as stack:
            listener = DeltaListener(self._hot, conversation.org_id, session_id, request.call_no, number)
            stack.push_async_callback(listener.close)
            try:
                provider = self._provider(request.model)
                reply = await provider.complete(asked, listener)
            except asyncio.CancelledError:
                await self._paid_if_used(request, run_id, "cancelled", listener.used)
                raise
            except ModelFailure as error:
                raise await self._failed(request, run_id, error, listener.used) from error
            except Exception:
                await self._paid_if_used(request, run_id, "fault", listener.used)
                raise
        reply = ModelReply.model_validate(clean_json(reply.model_dump(mode="json")))
        reply = with_output(reply, asked.output_schema) if request.compact is None else without_calls(reply)
        return reply, self._attempt(request, reply.stop.value, reply.usage)

    def _provider(self, model: str) -> Provider:
        try:
            name = catalog.find(model).provider.value
        except InvalidRequest as error:
            raise ModelFailure(error.message, code=Code.UNKNOWN_MODEL, retryable=False) from error
        if name not in self._providers:
            factory = self._factories.get(name)
            if factory is None:
                raise ModelFailure(
                    f"No provider {name!r} is configured on this worker. Set its API key and restart the worker.",
                    code=Code.MODEL_AUTHENTICATION,
                    retryable=False,
                )
            self._providers[name] = factory()
        return self._providers[name]

    async def _failed(self, request: ModelInput, run_id: str, error: ModelFailure, used: Usage) -> ApplicationError:
        """Store what the failed attempt cost and show when the next one comes, then say so to Temporal."""
        number = activity.info().attempt
        attempt = self._attempt(request, error.kind or error.code.value, used)
        if not error.retryable or number >= request.max_attempts:
            await persist(lambda: self._journal.paid(request.fence.session_id, run_id, attempt))
            tally = await persist(lambda: self._journal.spent(request.fence.session_id, request.call_no))
            failed = ModelFailed(code=error.code.value, reason=error.kind, tally=tally).model_dump(mode="json")
            return ApplicationError(error.message, failed, type=error.code.value, non_retryable=True)
        delay = timedelta(seconds=delay_before(number + 1, error))
        next_at = datetime.now(UTC) + delay
        await persist(
            lambda: self._journal.retrying(request.fence, run_id, attempt, next_at, error.kind or error.code.value)
        )
        return ApplicationError(error.message, type=error.code.value, next_retry_delay=delay)

    async def _paid_if_used(self, request: ModelInput, run_id: str, outcome: str, used: Usage) -> None:
        if used == Usage():
            return
        attempt = self._attempt(request, outcome, used)
        # The attempt is over, however it ended; this one write may still take its time, but not for ever.
        try:
            async with asyncio.timeout(5):
                await self._journal.paid(request.fence.session_id, run_id, attempt)
        except (Unavailable, TimeoutError) as error:
            log.warning("what an attempt has used could not be stored (%s): %s", type(error).__name__, used)

    def _attempt(self, request: ModelInput, outcome: str, used: Usage) -> Attempt:
        return Attempt(
            call_no=request.call_no,
            step=request.step,
            attempt=activity.info().attempt,
            model=request.model,
            outcome=outcome,
            usage=used,
            cost_usd=cost_of(used, catalog.find(request.model)).usd,
        )

    def _calls(self, reply: ModelReply, enabled: tuple[str, ...]) -> tuple[StoredCall, ...]:
        """The calls of a reply, validated, with ids of our own."""
        if reply.stop not in RUNNABLE:
            return ()
        checked = [self._registry.check(call, enabled) for call in reply.calls[:MOST_CALLS]]
        checked += [surplus(call, MOST_CALLS) for call in reply.calls[MOST_CALLS:]]
        return tuple(self._call(*pair) for pair in zip(reply.calls, checked, strict=True))

    def _call(self, proposed: ProposedCall, checked: Checked) -> StoredCall:
        return StoredCall(
            call_id=new_id("call"),
            provider_id=proposed.provider_id,
            tool=proposed.tool,
            arguments=checked.arguments,
            args_sha=checked.sha256,
            facts=checked.facts,
            state=CallState.READY if checked.refused is None else CallState.INVALID,
            result=checked.refused,
        )

    def _outcome(self, request: ModelInput, answer: Answer, gone: tuple[str, ...]) -> ModelOutcome:
        reply = answer.reply
        read = answer.usage.input + answer.usage.cache_read + answer.usage.cache_write
        return ModelOutcome(
            stop=reply.stop,
            calls=tuple(self._ref(request, answer, call) for call in answer.calls[:MOST_CALLS]),
            cut_calls=reply.stop is Stop.MAX_TOKENS and bool(reply.calls),
            said=first_line(reply.text, SAID_CHARACTERS),
            tally=Tally(
                input_tokens=read,
                output_tokens=answer.usage.output,
                cost_usd=answer.cost_usd,
            ),
            stop_detail=reply.stop_detail,
            context_share=context_share(request.model, read),
            summarised=None if request.compact is None else usable(reply),
            gone=gone,
            ended=answer.ended,
        )

    def _ref(self, request: ModelInput, answer: Answer, call: StoredCall) -> CallRef:
        subject = Subject(call.tool, call.facts, call.arguments, request.model, answer.org_id, answer.spent_usd)
        return call_ref(call, self._registry, self._policy, subject)


def _seconds_left() -> float:
    """How long this attempt may still take."""
    info = activity.info()
    if info.start_to_close_timeout is None:
        return math.inf
    return (info.started_time + info.start_to_close_timeout - datetime.now(UTC)).total_seconds()
