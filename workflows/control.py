"""What people have asked of the session: to pause, to spend more, to read a message. Pure: no clock, no I/O, no Temporal."""

from dataclasses import dataclass, field
from decimal import Decimal

from conductor_ai.contracts.control import (
    BudgetRequest,
    ControlAnswer,
    ControlKind,
    Limits,
    MessageNotice,
    Pause,
    PauseKind,
)
from conductor_ai.contracts.session import Carried, Tally

INBOX_MAX = 100
"""Messages that wait to be read."""
SEEN_MAX = 1000
"""Messages that are known as repeated when they come again."""


def overspent(limits: Limits, tally: Tally) -> str | None:
    """A sentence if a limit is used up, else None."""
    tokens = tally.input_tokens + tally.output_tokens
    if limits.max_cost_usd is not None and tally.cost_usd >= limits.max_cost_usd:
        return f"It has spent ${_money(tally.cost_usd)} of its limit of ${_money(limits.max_cost_usd)}."
    if limits.max_total_tokens is not None and tokens >= limits.max_total_tokens:
        return f"It has used {tokens} tokens of its limit of {limits.max_total_tokens}."
    return None


def _money(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


@dataclass
class Control:
    """Pause, limits and inbox of a session."""

    limits: Limits = field(default_factory=Limits)
    pause: Pause | None = None
    inbox: list[str] = field(default_factory=list)
    """Messages that no answered model call has read yet."""
    seen: dict[str, None] = field(default_factory=dict)
    interrupted: bool = False
    """Somebody wants what is under way to stop."""
    again: set[str] = field(default_factory=set)
    """Messages that were announced once more since the last model call began: it may have looked for them too early."""

    @classmethod
    def restore(cls, carried: Carried, limits: Limits) -> "Control":
        """As an earlier run left it; `limits` are those of the start."""
        return cls(
            limits=carried.limits or limits,
            pause=carried.pause,
            inbox=list(carried.inbox),
            seen=dict.fromkeys(carried.seen),
            interrupted=carried.interrupted,
        )

    def carry(self, state: Carried) -> Carried:
        """The state with everything that the next run needs of this."""
        return state.model_copy(
            update={
                "limits": self.limits,
                "pause": self.pause,
                "inbox": tuple(self.inbox),
                "seen": tuple(self.seen),
                "interrupted": self.interrupted,
            }
        )

    def ask_to_pause(self, reason: str, by: str) -> ControlAnswer:
        """Pause before the next step."""
        if self.pause is not None:
            return self._answer(ControlKind.UNCHANGED)
        self.pause = Pause(kind=PauseKind.PERSON, reason=reason or "Somebody asked for it.", by=by)
        return self._answer(ControlKind.ACCEPTED)

    def ask_to_resume(self, tally: Tally) -> ControlAnswer:
        """Go on, unless the budget does not allow it."""
        if self.pause is None:
            return self._answer(ControlKind.UNCHANGED)
        if overspent(self.limits, tally) is not None:
            return self._answer(ControlKind.OVER_BUDGET)
        self.pause = None
        return self._answer(ControlKind.ACCEPTED)

    def set_limits(self, request: BudgetRequest, tally: Tally) -> ControlAnswer:
        """New limits. Raising them ends a pause for want of budget."""
        limits = self.limits.model_copy(update={name: getattr(request.limits, name) for name in request.named})
        kind = ControlKind.UNCHANGED if limits == self.limits else ControlKind.ACCEPTED
        self.limits = limits
        if self.pause is not None and self.pause.kind is PauseKind.BUDGET and overspent(self.limits, tally) is None:
            self.pause = None
        return self._answer(kind)

    def check_budget(self, tally: Tally) -> None:
        """Pause if a limit is used up."""
        if self.pause is None and (why := overspent(self.limits, tally)) is not None:
            self.pause = Pause(kind=PauseKind.BUDGET, reason=f"{why} Raise the limit to let it go on, or cancel it.")

    def repeats_itself(self, tool: str) -> None:
        """Pause because the model proposes a denied call again and again."""
        if self.pause is None:
            self.pause = Pause(
                kind=PauseKind.DENIALS,
                reason=f"The model keeps proposing a call of {tool} that was denied. Resume it, send it a message, or cancel it.",
            )

    def receive(self, notice: MessageNotice, *, idle: bool) -> ControlAnswer:
        """Take a message; the same one again is no news."""
        if notice.message_id in self.seen:
            self.again.add(notice.message_id)
            return self._answer(ControlKind.UNCHANGED)
        if notice.only_if_idle and not idle:
            return self._answer(ControlKind.BUSY)
        if len(self.inbox) >= INBOX_MAX:
            return self._answer(ControlKind.FULL)
        self.take(notice.message_id)
        self.interrupted = self.interrupted or (notice.interrupt and not idle)
        return self._answer(ControlKind.ACCEPTED)

    def take(self, message_id: str) -> None:
        """Have a stored message read. Whoever announces it later brings no news."""
        self.seen[message_id] = None
        while len(self.seen) > SEEN_MAX:
            del self.seen[next(iter(self.seen))]
        if message_id not in self.inbox:
            self.inbox.append(message_id)

    def to_read(self) -> tuple[str, ...]:
        """What the model call that begins now is to read."""
        self.again.clear()
        return tuple(self.inbox)

    def looked_for(self, messages: tuple[str, ...], gone: tuple[str, ...]) -> None:
        """A model call has looked for these messages, and did not find some. One that was sent again meanwhile is there by now."""
        again = self.again.intersection(gone)
        self.read(tuple(message for message in messages if message not in again))
        self.forget(tuple(message for message in gone if message not in again))

    def forget(self, messages: tuple[str, ...]) -> None:
        """These were taken back; sent again they are news."""
        self.read(messages)
        for message in messages:
            self.seen.pop(message, None)

    def read(self, messages: tuple[str, ...]) -> None:
        """These were in the conversation of a call that is answered."""
        self.inbox = [message for message in self.inbox if message not in messages]

    def _answer(self, kind: ControlKind) -> ControlAnswer:
        return ControlAnswer(kind=kind, pause=self.pause, limits=self.limits)
