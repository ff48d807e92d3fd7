"""The ledger of calls that wait for a decision. Pure: no clock, no I/O, no Temporal."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from conductor_ai.contracts.decisions import TEMPORAL_ACCESS, Decision, DecisionRequest, Verdict, VerdictKind
from conductor_ai.text import clean

EARLY_MAX = 100
"""Decisions kept for calls that have not appeared; a flood of signals must not fill the history."""
DECIDED_MAX = 100
"""Accepted decisions kept in memory; older ones are answered from the store."""


@dataclass(frozen=True)
class Waiting:
    """A call that waits."""

    call_id: str
    tool: str
    arguments_sha256: str
    expires_at: datetime
    preview: str = ""
    summary: str = ""
    """What will happen, once it was looked up."""


@dataclass
class Ledger:
    """Which calls wait, what was decided about which, and what was decided too early."""

    allow_signals: bool = True
    waiting: dict[str, Waiting] = field(default_factory=dict)
    decided: dict[str, Decision] = field(default_factory=dict)
    early: dict[tuple[str, str], Decision] = field(default_factory=dict)
    """By call and digest: a decision about other arguments must not stand in the way of the right one."""
    open: set[str] = field(default_factory=set)
    """Calls whose decision nobody has taken yet; it is not forgotten before."""
    expired: dict[str, None] = field(default_factory=dict)
    """The last calls whose time was over before anybody decided."""

    @classmethod
    def restore(cls, decided: tuple[Decision, ...], early: tuple[Decision, ...], *, allow_signals: bool) -> "Ledger":
        """The ledger as an earlier run of the workflow left it."""
        return cls(
            allow_signals=allow_signals,
            decided={decision.call_id: decision for decision in decided},
            early={(decision.call_id, decision.arguments_sha256): decision for decision in early},
        )

    def register(self, waiting: Waiting) -> None:
        """Begin to take decisions for a call: before anybody is shown it. An early decision counts from now on."""
        self.open.add(waiting.call_id)
        self.waiting[waiting.call_id] = waiting
        early = self.early.pop((waiting.call_id, waiting.arguments_sha256), None)
        if early is not None and early.at < waiting.expires_at:
            self._accept(early)

    def adopt(self, decision: Decision) -> None:
        """Take over a decision that the store holds already."""
        if decision.call_id not in self.decided:
            self._accept(decision)

    def describe(self, call_id: str, summary: str) -> None:
        """Add what will happen to a call that still waits."""
        if (waiting := self.waiting.get(call_id)) is not None:
            self.waiting[call_id] = replace(waiting, summary=summary)

    def expire(self, call_id: str) -> None:
        """Stop taking decisions for a call: its decision was taken, or its time is over."""
        if self.waiting.pop(call_id, None) is not None:
            self.expired[call_id] = None
            while len(self.expired) > DECIDED_MAX:
                del self.expired[next(iter(self.expired))]
        self.open.discard(call_id)

    def forget(self, call_id: str) -> None:
        """Stop taking decisions for a call that never was put to anybody."""
        self.waiting.pop(call_id, None)
        self.open.discard(call_id)

    def decision(self, call_id: str) -> Decision | None:
        """The decision that counts for a call, if there is one."""
        return self.decided.get(call_id)

    def decide(self, request: DecisionRequest, now: datetime) -> Verdict:
        """Take a decision. First one wins; never raises.

        `now` is compared with the expiry itself, because a decision may be handled before the timer's event.
        """
        if request.via == "signal" and not self.allow_signals:
            return Verdict(kind=VerdictKind.SIGNALS_REFUSED)
        candidate = _decision(request, now)
        if (earlier := self.decided.get(request.call_id)) is not None:
            same = (earlier.decision, earlier.arguments_sha256) == (candidate.decision, candidate.arguments_sha256)
            kind = VerdictKind.SAME_AGAIN if same else VerdictKind.ALREADY_DECIDED
            return Verdict(kind=kind, decision=earlier)
        if request.call_id in self.expired:
            return Verdict(kind=VerdictKind.EXPIRED)
        waiting = self.waiting.get(request.call_id)
        if waiting is None:
            if len(self.early) < EARLY_MAX:
                self.early.setdefault((request.call_id, request.arguments_sha256), candidate)
            return Verdict(kind=VerdictKind.UNKNOWN_CALL)
        if now >= waiting.expires_at:
            return Verdict(kind=VerdictKind.EXPIRED)
        if request.arguments_sha256 != waiting.arguments_sha256:
            return Verdict(kind=VerdictKind.DIGEST_MISMATCH)
        self._accept(candidate)
        return Verdict(kind=VerdictKind.ACCEPTED, decision=candidate)

    def _accept(self, decision: Decision) -> None:
        self.decided[decision.call_id] = decision
        self.waiting.pop(decision.call_id, None)
        taken = [call_id for call_id in self.decided if call_id not in self.open]
        for call_id in taken[: max(0, len(self.decided) - DECIDED_MAX)]:
            del self.decided[call_id]


def _decision(request: DecisionRequest, now: datetime) -> Decision:
    by_update = request.via == "api" and request.by is not None
    return Decision(
        call_id=request.call_id,
        # Cleaned here, where a decision enters: the store could never write it otherwise.
        decision_id=clean(request.decision_id or f"{request.decision}:{request.arguments_sha256[:16]}"),
        decision=request.decision,
        arguments_sha256=request.arguments_sha256,
        by=clean(request.by) if by_update and request.by is not None else TEMPORAL_ACCESS,
        verified=False,  # only the store can know: see `apply_decision`
        via="api" if by_update else "signal",
        comment=None if request.comment is None else clean(request.comment),
        at=now,
    )
