"""Follows a session to its end, or to the point where only a person can move it, and brings decisions to it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from conductor_ai.cli.codes import ExitCode, of_status
from conductor_ai.cli.deciding import Answer, Choice, Decider
from conductor_ai.cli.listening import Listener, Words
from conductor_ai.cli.progress import Event, Progress, identity, only_people_can_move
from conductor_ai.client import AsyncConductor, Conflict, NotFound
from conductor_ai.contracts.decisions import DecisionKind
from conductor_ai.contracts.status import ApprovalStatus
from conductor_ai.contracts.views import ApprovalView, SessionView
from conductor_ai.visible import visible

PATIENCE_SECONDS = 60.0
"""How long a server may be away before a command that follows gives up; the session goes on without it."""
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Decided:
    """A decision was brought."""

    approval: ApprovalView
    choice: Choice
    taken: bool
    """False: no worker has taken it yet; it is on its way."""


@dataclass(frozen=True)
class Notice:
    """A sentence for the person."""

    text: str


@dataclass(frozen=True)
class Ending:
    """Why following stopped: the session ended, or waits for somebody."""

    code: ExitCode
    session: SessionView


Shown: TypeAlias = Event | Words | Decided | Notice | Ending


class Output(Protocol):
    """Shows what happens, in one form or another."""

    def show(self, event: Shown) -> None:
        """Show one event."""
        ...


@dataclass(frozen=True)
class _Question:
    approval: ApprovalView
    answer: asyncio.Task[Choice]


class Follower:
    """Follows one session."""

    def __init__(self, client: AsyncConductor, output: Output, decider: Decider | None) -> None:
        """Without a decider, every call that needs a person stays pending."""
        self._client = client
        self._patient = client.with_options(patience=PATIENCE_SECONDS)
        self._output = output
        self._decider = decider
        self._progress = Progress()
        self._listener = Listener(client, self._write)
        self._answered: set[tuple[str, str]] = set()
        self._question: _Question | None = None

    async def follow(self, session_id: str) -> Ending:
        """Returns when the session has ended, or waits for a person who does not answer here.

        Raises:
            ClientError: the server does not show it (any more).
        """
        view = await self._first(session_id)
        poll = self._poll(session_id, view)
        try:
            while (code := self._code(view)) is None:
                self._ask(view)
                waits: set[asyncio.Task[object]] = {poll, *self._open_task()}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if await self._answer() is Answer.QUIT:
                    code = ExitCode.WAITS
                    break
                if poll.done():
                    view = await self._tell(poll.result(), view)
                    poll = self._poll(session_id, view)
        finally:
            poll.cancel()
            await asyncio.gather(poll, self._listener.close(), return_exceptions=True)
            await self._withdraw()
        ending = Ending(code, view)
        self._output.show(ending)
        return ending

    async def _first(self, session_id: str) -> SessionView:
        view = await self._patient.sessions.get(session_id)
        return await self._tell(view, view)

    def _poll(self, session_id: str, view: SessionView) -> asyncio.Task[SessionView | None]:
        return asyncio.create_task(self._look(session_id, view))

    async def _look(self, session_id: str, view: SessionView) -> SessionView | None:
        """The session once it is newer than `view`; None, or the same again, when it is not after a while."""
        began = time.monotonic()
        after = self._progress.complete or None
        fresh: SessionView | None
        self._listener.begin(session_id, view.version)
        if await self._listener.newer(view.version):
            fresh = await self._patient.sessions.get(session_id, steps_after=after)
        else:
            fresh = await self._patient.sessions.poll(session_id, view.version, steps_after=after)
        if (fresh is None or fresh.version <= view.version) and time.monotonic() - began < PAUSE_SECONDS:
            await asyncio.sleep(PAUSE_SECONDS)  # A server without its database does not wait: it must not be hammered.
        return fresh

    def _write(self, words: Words) -> None:
        if self._question is None:  # Somebody is typing there.
            self._output.show(words)

    async def _tell(self, fresh: SessionView | None, known: SessionView) -> SessionView:
        """Shows what is new, and returns the newest view."""
        if fresh is None:
            return known
        events = self._progress.update(fresh)
        if self._question is not None:
            gone = identity(self._question.approval) not in {identity(each) for each in fresh.pending_approvals}
            if gone or events:
                await self._withdraw()  # Asked again below what is shown now, unless it is settled.
            if gone:
                self._output.show(
                    Notice("This call is not pending any more: it was decided elsewhere, or its time is over.")
                )
        for event in events:
            self._output.show(event)
        return fresh

    def _code(self, view: SessionView) -> ExitCode | None:
        """The exit code, once there is nothing more to follow."""
        if view.status.ended:
            return of_status(view.status)
        if self._decider is None:
            return ExitCode.WAITS if only_people_can_move(view) else None
        return ExitCode.WAITS if only_people_can_move(view) and not view.pending_approvals else None

    def _ask(self, view: SessionView) -> None:
        if self._decider is None or self._question is not None:
            return
        for approval in view.pending_approvals:
            if identity(approval) not in self._answered:
                self._output.show(Words(""))
                self._question = _Question(approval, asyncio.create_task(self._decider.choose(approval)))
                return

    def _open_task(self) -> tuple[asyncio.Task[Choice], ...]:
        return () if self._question is None else (self._question.answer,)

    async def _answer(self) -> Answer | None:
        """Brings the answer to the open question, if there is one by now."""
        if self._question is None or not self._question.answer.done():
            return None
        approval, choice = self._question.approval, self._question.answer.result()
        self._question = None
        if choice.answer is Answer.QUIT:
            return choice.answer
        self._answered.add(identity(approval))
        try:
            decision: DecisionKind = "approve" if choice.answer is Answer.APPROVE else "deny"
            decided = await self._client.approvals.decide(approval, decision, comment=choice.comment)
        except (
            Conflict,
            NotFound,
        ) as error:  # Somebody was quicker, or it was too late: the session goes on all the same.
            self._output.show(Notice(visible(error.message)))
        else:
            self._output.show(Decided(approval, choice, decided.status is not ApprovalStatus.PENDING))
        return choice.answer

    async def _withdraw(self) -> None:
        if self._question is not None:
            self._question.answer.cancel()
            await asyncio.gather(self._question.answer, return_exceptions=True)
            self._question = None
