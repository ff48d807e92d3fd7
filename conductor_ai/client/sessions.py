"""`client.sessions`: start, look, wait, cancel."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from conductor_ai.client.endpoint import Resource, W, endpoint, listing, procedure
from conductor_ai.client.paging import Paged, paged
from conductor_ai.client.reading import reads
from conductor_ai.client.retrying import under
from conductor_ai.client.steps import Call, Flow, Request, body, path, query
from conductor_ai.client.waiting import LONGEST_POLL, Until, look, newer, waited
from conductor_ai.contracts.answers import CancelAnswer, Page, RunAccepted
from conductor_ai.contracts.explain import Explanation
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.contracts.views import SessionSummary, SessionView

Steps = Literal["none", "last", "all"]


class Message(TypedDict):
    """One message of the conversation that a session starts with."""

    role: Literal["user", "assistant", "system"]
    content: str


class Limits(TypedDict, total=False):
    """How much a session may use."""

    deadline_seconds: int
    """Seconds from the start after which it ends with the stop reason `deadline`."""


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
        idempotency_key: str | None = None,
    ) -> Call[RunAccepted]:
        """Starts a session. It runs on the server; `wait` or `get` show what becomes of it.

        Args:
            messages: what is asked, as one text or as a conversation.
            model: an id of `client.models.list()`; None is the server's default.
            tools: names of `client.tools.list()`; None is all that are available, an empty list none.
            max_steps: answers of the model before it has to be done; None is the server's default.
            metadata: up to 16 entries of your own.
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
        limit: int = 50,
        cursor: str | None = None,
    ) -> Paged[SessionSummary]:
        """Sessions, newest first.

        Args:
            limit: entries of one page, 1 to 200. Iterating goes through all pages.
            cursor: `next_cursor` of a page, to begin after it.
        """
        filters = query(status=status, phase=phase, model=model, limit=limit, cursor=cursor)
        return paged(Page[SessionSummary], Request("GET", "/v1/agents", filters))

    @endpoint
    def cancel(self, session_id: str, *, reason: str | None = None) -> Call[CancelAnswer]:
        """Cancels a session. Asking again is no error; from the first answer on it can only end as cancelled.

        Raises:
            SessionEnded: it has completed or failed already. NotFound: there is none.
        """
        request = Request("POST", path("/v1/agents/{}/cancel", session_id), body=body(reason=reason))
        return Call(request, reads(CancelAnswer))

    @endpoint
    def explain(self, session_id: str) -> Call[Explanation]:
        """Why the session does not move: a sentence, who has to act, and the facts behind it.

        Raises:
            NotFound: there is none.
        """
        return Call(Request("GET", path("/v1/agents/{}/explain", session_id)), reads(Explanation))
