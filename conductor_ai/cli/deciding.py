"""Who decides about a waiting call while a command follows a session."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from conductor_ai.contracts.views import ApprovalView


class Answer(StrEnum):
    """What may be answered."""

    APPROVE = "approve"
    DENY = "deny"
    QUIT = "quit"
    """No decision: the call stays pending, the command ends."""


@dataclass(frozen=True)
class Choice:
    """An answer, and why."""

    answer: Answer
    comment: str | None = None
    because: str = ""
    """How it came to this, for the person who reads along."""


class Decider(Protocol):
    """Somebody, or some rule."""

    async def choose(self, approval: ApprovalView) -> Choice:
        """Decide. Cancelled when the approval is not pending any more."""
        ...


class ApproveAll:
    """`--yes`."""

    async def choose(self, _approval: ApprovalView) -> Choice:
        return Choice(Answer.APPROVE, because="--yes")
