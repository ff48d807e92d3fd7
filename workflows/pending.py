"""The ledger of calls that wait for a decision. Pure: no clock, no I/O, no Temporal."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from conductor_ai.contracts.decisions import (
    NEEDS_CONTENT,
    TEMPORAL_ACCESS,
    Decision,
    DecisionRequest,
    Verdict,
    VerdictKind,
)
from conductor_ai.contracts.session import Carried
from conductor_ai.text import clean

EARLY_MAX = 100
"""Decisions kept for calls that have not appeared; a flood of signals must not fill the history."""
DECIDED_MAX = 100
"""Accepted decisions kept in memory; older ones are answered from the store."""
DENIALS_MAX = 200
"""Digests of denied calls that are remembered."""

Asked: TypeAlias = tuple[str, int]
"""A call, and which time it is asked."""


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
    round: int = 1
    """Which time it is asked: the first, or again with edited arguments or another effect."""

    @property
    def asked(self) -> Asked:
        """What a decision must name."""
        return self.call_id, self.round


@dataclass
class Ledger:
    """Which calls wait, what was decided about which, and what was decided too early."""

    allow_signals: bool = True
    waiting: dict[Asked, Waiting] = field(default_factory=dict)
    decided: dict[Asked, Decision] = field(default_factory=dict)
    early: dict[tuple[Asked, str], Decision] = field(default_factory=dict)
    """By call and digest: a decision about other arguments must not stand in the way of the right one."""
    open: set[Asked] = field(default_factory=set)
    """Calls whose decision nobody has taken yet; it is not forgotten before."""
    expired: dict[Asked, None] = field(default_factory=dict)
    """The last calls whose time was over before anybody decided."""
    denials: dict[str, int] = field(default_factory=dict)
    """How often a call with this digest was denied or turned away."""

    @classmethod
    def restore(cls, carried: Carried, *, allow_signals: bool) -> "Ledger":
        """The ledger as an earlier run of the workflow left it."""
        return cls(
            allow_signals=allow_signals,
            decided={_asked(decision): decision for decision in carried.decisions},
            early={(_asked(decision), decision.arguments_sha256): decision for decision in carried.early},
            denials=dict(carried.denials),
        )

    def carry(self, state: Carried) -> Carried:
        """The state with everything that the next run needs of this ledger.

        Without what was said: that is stored, and a hundred long comments would not fit Temporal's limit of 2 MB.
        """
        decisions = tuple(decision.model_copy(update={"comment": None}) for decision in self.decided.values())
        return state.model_copy(
            update={"decisions": decisions, "early": tuple(self.early.values()), "denials": dict(self.denials)}
        )

    def register(self, waiting: Waiting) -> None:
        """Begin to take decisions for a call: before anybody is shown it. An early decision counts from now on."""
        self.open.add(waiting.asked)
        self.waiting[waiting.asked] = waiting
        early = self.early.pop((waiting.asked, waiting.arguments_sha256), None)
        if early is not None and early.at < waiting.expires_at:
            self._accept(early)

    def adopt(self, decision: Decision) -> None:
        """Take over a decision that the store holds already."""
        if _asked(decision) not in self.decided:
            self._accept(decision)

    def describe(self, asked: Asked, summary: str) -> None:
        """Add what will happen to a call that still waits."""
        if (waiting := self.waiting.get(asked)) is not None:
            self.waiting[asked] = replace(waiting, summary=summary)

    def expire(self, asked: Asked) -> None:
        """Stop taking decisions for a call: its decision was taken, or its time is over."""
        if self.waiting.pop(asked, None) is not None:
            self.expired[asked] = None
            while len(self.expired) > DECIDED_MAX:
                del self.expired[next(iter(self.expired))]
        self.open.discard(asked)

    def forget(self, asked: Asked) -> None:
        """Stop taking decisions for a call that never was put to anybody."""
        self.waiting.pop(asked, None)
        self.open.discard(asked)

    def decision(self, asked: Asked) -> Decision | None:
        """The decision that counts for a call, if there is one."""
        return self.decided.get(asked)

    def count_denial(self, arguments_sha256: str) -> int:
        """Remember that a call was denied. Returns how often it was by now."""
        times = self.denials.pop(arguments_sha256, 0) + 1
        self.denials[arguments_sha256] = times
        while len(self.denials) > DENIALS_MAX:
            del self.denials[next(iter(self.denials))]
        return times

    def was_denied(self, arguments_sha256: str) -> bool:
        """Whether exactly this call was denied before."""
        return arguments_sha256 in self.denials

    def decide(self, request: DecisionRequest, now: datetime) -> Verdict:
        """Take a decision. First one wins; never raises.

        `now` is compared with the expiry itself, because a decision may be handled before the timer's event.
        """
        if request.via == "signal" and not self.allow_signals:
            return Verdict(kind=VerdictKind.SIGNALS_REFUSED)
        if request.decision in NEEDS_CONTENT and not request.content_sha256:
            return Verdict(kind=VerdictKind.NEEDS_API)
        candidate = _decision(request, now)
        asked = _asked(candidate)
        if (earlier := self.decided.get(asked)) is not None:
            kind = VerdictKind.SAME_AGAIN if _same(earlier, candidate) else VerdictKind.ALREADY_DECIDED
            return Verdict(kind=kind, decision=earlier)
        if asked in self.expired:
            return Verdict(kind=VerdictKind.EXPIRED)
        waiting = self.waiting.get(asked)
        if waiting is None:
            if len(self.early) < EARLY_MAX:
                self.early.setdefault((asked, request.arguments_sha256), candidate)
            return Verdict(kind=VerdictKind.UNKNOWN_CALL)
        if now >= waiting.expires_at:
            return Verdict(kind=VerdictKind.EXPIRED)
        if request.arguments_sha256 != waiting.arguments_sha256:
            return Verdict(kind=VerdictKind.DIGEST_MISMATCH)
        self._accept(candidate)
        return Verdict(kind=VerdictKind.ACCEPTED, decision=candidate)

    def _accept(self, decision: Decision) -> None:
        asked = _asked(decision)
        self.decided[asked] = decision
        self.waiting.pop(asked, None)
        taken = [known for known in self.decided if known not in self.open]
        for known in taken[: max(0, len(self.decided) - DECIDED_MAX)]:
            del self.decided[known]


def _asked(decision: Decision) -> Asked:
    return decision.call_id, decision.round


def _same(one: Decision, other: Decision) -> bool:
    return (one.decision, one.arguments_sha256, one.content_sha256) == (
        other.decision,
        other.arguments_sha256,
        other.content_sha256,
    )


def _decision(request: DecisionRequest, now: datetime) -> Decision:
    by_update = request.via == "api" and request.by is not None
    return Decision(
        call_id=request.call_id,
        # Cleaned here, where a decision enters: the store could never write it otherwise.
        decision_id=clean(request.decision_id or f"{request.decision}:{request.round}:{request.arguments_sha256[:16]}"),
        decision=request.decision,
        arguments_sha256=request.arguments_sha256,
        round=request.round,
        content_sha256=request.content_sha256,
        by=clean(request.by) if by_update and request.by is not None else TEMPORAL_ACCESS,
        verified=False,  # only the store can know: see `apply_decision`
        via="api" if by_update else "signal",
        comment=None if request.comment is None else clean(request.comment),
        at=now,
    )
