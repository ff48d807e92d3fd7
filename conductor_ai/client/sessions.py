"""`client.sessions`: start, look, wait, cancel."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Literal, TypedDict

from conductor_ai.client.endpoint import Resource, W, endpoint, listing, procedure, streaming
from conductor_ai.client.paging import Paged, paged
from conductor_ai.client.reading import parsed, reads
from conductor_ai.client.retrying import under
from conductor_ai.client.steps import Answer, Call, Feed, Flow, Request, body, path, query
from conductor_ai.client.streaming import followed
from conductor_ai.client.waiting import LONGEST_POLL, Until, look, newer, waited
from conductor_ai.contracts.answers import CancelAnswer, EventList, MessageAccepted, Page, RunAccepted, StepList
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.events import DeltaView, EventView
from conductor_ai.contracts.explain import Explanation
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.contracts.views import SessionSummary, SessionView, StepView

Steps = Literal["none", "last", "all"]


class Message(TypedDict):
    """One message of the conversation that a session starts with."""

    role: Literal["user", "assistant", "system"]
    content: str


class Limits(TypedDict, total=False):
    """How much a session may use."""

    max_cost_usd: float
    """Once they are spent the session pauses before its next step, until the limit is raised."""
    max_total_tokens: int
    """Input and output tokens together. The same."""
    deadline_seconds: int
    """Seconds from the start after which it ends with the stop reason `deadline`."""


class Asking(TypedDict, total=False):
    """How people are asked. A session can be made stricter than the server's policy, never looser."""

    policy: Literal["default", "ask_every_call"]
    expires_in: int
    """Seconds that people have to decide."""
    on_expiry: Literal["expire", "deny", "fail"]


class Unchanged(Enum):
    """A limit that stays as it is."""

    UNCHANGED = "unchanged"


class Sessions(Resource[W]):
    """Agent sessions."""

    @endpoint
    def run(
        self,
        messages: str | Sequence[Message],
        *,
        model: str | None = None,
        tools: Sequence[str] | None = None,
        max_steps: int | None = None,
        system_prompt: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, str | int | float | bool | None] | None = None,
        limits: Limits | None = None,
        approval: Asking | None = None,
        mode: Literal["run", "chat"] | None = None,
        idle_timeout_seconds: int | None = None,
        output_schema: JsonObject | None = None,
        fallback_models: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> Call[RunAccepted]:
        """Starts a session. It runs on the server; `wait` or `get` show what becomes of it.

        Args:
            messages: what is asked, as one text or as a conversation.
            model: an id of `client.models.list()`; None is the server's default.
            tools: names of `client.tools.list()`; None is all that are available, an empty list none.
            max_steps: answers of the model before it has to be done; None is the server's default.
            metadata: up to 16 entries of your own.
            limits: what it may spend, and until when it has to end.
            approval: how people are asked about its calls.
            mode: `chat` waits for the next message after each answer; `idle_timeout_seconds` without one complete it.
            output_schema: a JSON Schema that the session's `output` fits.
            fallback_models: asked in their order when the model cannot be had.
            idempotency_key: starts nothing new if the same request came under it within 24 hours, also from another process. Without
                one, a key is made for this call, and only its own repetitions are recognised.

        Raises:
            UnknownModel, ModelRetired, UnknownTool, InvalidRequest: it cannot be done as it is.
        """
        asked = [Message(role="user", content=messages)] if isinstance(messages, str) else list(messages)
        request = body(
            messages=asked,
            model=model,
            tools=None if tools is None else list(tools),
            max_steps=max_steps,
            system_prompt=system_prompt,
            title=title,
            metadata=None if metadata is None else dict(metadata),
            limits=limits,
            approval=approval,
            mode=mode,
            idle_timeout_seconds=idle_timeout_seconds,
            output_schema=output_schema,
            fallback_models=None if fallback_models is None else list(fallback_models),
        )
        return Call(Request("POST", "/v1/agents/run", body=request, headers=under(idempotency_key)), reads(RunAccepted))

    @endpoint
    def get(self, session_id: str, *, steps: Steps = "all", steps_after: int | None = None) -> Call[SessionView]:
        """A session as it is now.

        Args:
            steps: which of its steps to show.
            steps_after: only steps with a higher number.

        Raises:
            NotFound: there is none.
        """
        return look(session_id, steps=None if steps == "all" else steps, steps_after=steps_after)

    @endpoint
    def poll(
        self, session_id: str, since_version: int, *, seconds: float = LONGEST_POLL, steps_after: int | None = None
    ) -> Call[SessionView | None]:
        """The session as soon as it is newer than `since_version`; None if it is not within `seconds` (30 at most).

        While the server's database is away it answers at once with a copy, which is `degraded` and may be no newer.

        Raises:
            NotFound: there is none.
        """
        return newer(session_id, since_version, seconds, steps_after=steps_after)

    @procedure
    def wait(self, session_id: str, *, until: Until = "attention", timeout: float | None = None) -> Flow[SessionView]:
        """The session once it has ended or waits for a person.

        Args:
            until: `attention` also returns when only a person can move it; `ended` waits for the end alone.
            timeout: seconds; None waits as long as it takes.

        Raises:
            WaitTimeout: it is not there in time; the session goes on.
            NotFound: there is none.
        """
        return waited(session_id, until, timeout, self.transport.options)

    @listing
    def list(
        self,
        *,
        status: Status | str | None = None,
        phase: Phase | str | None = None,
        model: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        metadata: JsonObject | None = None,
        q: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Paged[SessionSummary]:
        """Sessions, newest first.

        Args:
            created_after: only those made then or later; with a zone.
            metadata: only those whose metadata has all of these entries.
            q: only those with this text in their title.
            limit: entries of one page, 1 to 200. Iterating goes through all pages.
            cursor: `next_cursor` of a page, to begin after it.
        """
        filters = query(
            status=status,
            phase=phase,
            model=model,
            created_after=None if created_after is None else created_after.isoformat(),
            created_before=None if created_before is None else created_before.isoformat(),
            metadata=None if metadata is None else json.dumps(metadata),
            q=q,
            limit=limit,
            cursor=cursor,
        )
        return paged(Page[SessionSummary], Request("GET", "/v1/agents", filters))

    @listing
    def steps(self, session_id: str, *, after: int | None = None, limit: int = 50) -> Paged[StepView]:
        """The session's steps, the oldest first.

        Args:
            after: only steps with a higher number.
            limit: entries of one page, 1 to 200. Iterating goes through all pages.

        Raises:
            NotFound: there is none.
        """
        request = Request("GET", path("/v1/agents/{}/steps", session_id), query(after=after, limit=limit))
        return Paged(Call(request, _step_page), parameter="after")

    @listing
    def events(self, session_id: str, *, after: int | None = None, limit: int = 200) -> Paged[EventView]:
        """What happened in the session so far, in its order and without gaps.

        Args:
            after: only events with a higher `seq`.
            limit: entries of one page, 1 to 1000. Iterating goes through all pages.

        Raises:
            NotFound: there is none.
        """
        request = Request("GET", path("/v1/agents/{}/events", session_id), query(after=after, limit=limit))
        return Paged(Call(request, _event_page), parameter="after")

    @streaming
    def stream(self, session_id: str, *, after: int = 0, deltas: bool = True) -> Feed[EventView | DeltaView]:
        """What happens in the session as it happens, each event once and in order, until its last.

        A connection that breaks off is replaced, and goes on after the last event. Leave the stream by its end, `close()` or a `with`.

        Args:
            after: only events with a higher `seq`.
            deltas: also pieces of answers that the model is still writing (`DeltaView`), which may be missing.

        Raises:
            NotFound: there is none. TooManyStreams: the organisation has as many open as it may.
            ConnectionFailed: the server stayed away for longer than the client's patience.
        """
        return followed(session_id, after, deltas=deltas, options=self.transport.options)

    @endpoint
    def cancel(self, session_id: str, *, reason: str | None = None) -> Call[CancelAnswer]:
        """Cancels a session. Asking again is no error; from the first answer on it can only end as cancelled.

        Raises:
            SessionEnded: it has completed or failed already. NotFound: there is none.
        """
        request = Request("POST", path("/v1/agents/{}/cancel", session_id), body=body(reason=reason))
        return Call(request, reads(CancelAnswer))

    @endpoint
    def send_message(
        self,
        session_id: str,
        content: str,
        *,
        if_busy: Literal["enqueue", "interrupt", "reject"] | None = None,
        idempotency_key: str | None = None,
    ) -> Call[MessageAccepted]:
        """The next turn of a chat, or a word to a run that is still going.

        Args:
            if_busy: while it is at work, `enqueue` the message (the server's default), `interrupt` the answer under way, or `reject` it.

        Raises:
            SessionEnded: it reads no more messages. SessionBusy: it is at work, and the message was to be rejected then.
            TooManyMessages: too many wait to be read. NotFound: there is none.
        """
        request = body(content=content, if_busy=if_busy)
        url = path("/v1/agents/{}/messages", session_id)
        return Call(Request("POST", url, body=request, headers=under(idempotency_key)), reads(MessageAccepted))

    @endpoint
    def pause(self, session_id: str, *, reason: str | None = None) -> Call[SessionView]:
        """Stops the session before its next step; what is under way is finished first. Again is no error.

        Raises:
            SessionEnded: it has ended, or is ending. NotFound: there is none.
        """
        request = Request("POST", path("/v1/agents/{}/pause", session_id), body=body(reason=reason))
        return Call(request, reads(SessionView))

    @endpoint
    def resume(self, session_id: str) -> Call[SessionView]:
        """Lets a paused session go on. Not paused is no error.

        Raises:
            BudgetUsedUp: its budget has to be raised first. SessionEnded: it has ended. NotFound: there is none.
        """
        return Call(Request("POST", path("/v1/agents/{}/resume", session_id), body={}), reads(SessionView))

    @endpoint
    def update_budget(
        self,
        session_id: str,
        *,
        max_cost_usd: float | Literal[Unchanged.UNCHANGED] | None = Unchanged.UNCHANGED,
        max_total_tokens: int | Literal[Unchanged.UNCHANGED] | None = Unchanged.UNCHANGED,
    ) -> Call[SessionView]:
        """Changes what the session may spend. Raising a limit resumes a session that waits for it.

        A limit that is not named stays as it is; None lifts it.

        Raises:
            SessionEnded: it has ended, or is ending. NotFound: there is none.
        """
        limits = {"max_cost_usd": max_cost_usd, "max_total_tokens": max_total_tokens}
        request: JsonObject = {name: limit for name, limit in limits.items() if not isinstance(limit, Unchanged)}
        return Call(Request("PATCH", path("/v1/agents/{}/budget", session_id), body=request), reads(SessionView))

    @endpoint
    def delete(self, session_id: str) -> Call[None]:
        """Erases the content of a session that has ended. Afterwards it is not found, for anybody.

        Raises:
            SessionOpen: it has not ended. NotFound: there is none, or it was deleted before.
        """
        return Call(Request("DELETE", path("/v1/agents/{}", session_id)), lambda _: None)

    @endpoint
    def explain(self, session_id: str) -> Call[Explanation]:
        """Why the session does not move: a sentence, who has to act, and the facts behind it.

        Raises:
            NotFound: there is none.
        """
        return Call(Request("GET", path("/v1/agents/{}/explain", session_id)), reads(Explanation))


def _step_page(answer: Answer) -> Page[StepView]:
    found = parsed(StepList, answer.content)
    last = str(found.data[-1].step_number) if found.data else None
    return Page[StepView](data=found.data, next_cursor=last, has_more=found.has_more)


def _event_page(answer: Answer) -> Page[EventView]:
    found = parsed(EventList, answer.content)
    last = str(found.data[-1].seq) if found.data else None
    return Page[EventView](data=found.data, next_cursor=last, has_more=found.has_more)
