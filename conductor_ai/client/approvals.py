"""`client.approvals`: the calls that wait for a person."""

from dataclasses import dataclass
from typing import Protocol

from conductor_ai.client.endpoint import Resource, W, endpoint, listing
from conductor_ai.client.paging import Paged, paged
from conductor_ai.client.reading import reads
from conductor_ai.client.steps import Call, Request, body, path, query
from conductor_ai.contracts.answers import Page
from conductor_ai.contracts.decisions import DecisionKind
from conductor_ai.contracts.status import ApprovalStatus
from conductor_ai.contracts.views import ApprovalView


class Seen(Protocol):
    """What a decision is about: a call with the arguments that were seen. An `ApprovalView` is one."""

    @property
    def id(self) -> str:
        """Of the approval."""
        ...

    @property
    def arguments_sha256(self) -> str:
        """The digest of tool and arguments."""
        ...


@dataclass(frozen=True)
class SeenElsewhere:
    """A call that was shown by another program, which passed on its id and digest."""

    id: str
    arguments_sha256: str


class Approvals(Resource[W]):
    """One inbox across all sessions. The first decision about a call counts and never flips."""

    @listing
    def list(
        self,
        *,
        status: ApprovalStatus | str | None = None,
        session_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Paged[ApprovalView]:
        """Approvals, newest first; `status="pending"` are those that wait.

        Args:
            limit: entries of one page, 1 to 200. Iterating goes through all pages.
            cursor: `next_cursor` of a page, to begin after it.
        """
        filters = query(status=status, session_id=session_id, limit=limit, cursor=cursor)
        return paged(Page[ApprovalView], Request("GET", "/v1/approvals", filters))

    @endpoint
    def get(self, approval_id: str) -> Call[ApprovalView]:
        """The call, its consequence, who decided what, and what became of it.

        Raises:
            NotFound: there is none.
        """
        return Call(Request("GET", path("/v1/approvals/{}", approval_id)), reads(ApprovalView))

    @endpoint
    def decide(self, seen: Seen, decision: DecisionKind, *, comment: str | None = None) -> Call[ApprovalView]:
        """Decides about exactly what was seen.

        Returns:
            The approval as it is now. Still `pending`: no worker has taken the decision yet; it is on its way.

        Raises:
            AlreadyDecided: otherwise, by somebody else. The same decision again is no error.
            ApprovalExpired, ApprovalClosed: it is too late.
            DigestMismatch: the call has other arguments than those that were seen.
            Forbidden: the key may not decide. NotFound: there is none.
        """
        return _decision(seen, decision, comment)

    @endpoint
    def approve(self, seen: Seen, *, comment: str | None = None) -> Call[ApprovalView]:
        """Lets the call run, with the arguments that were seen. Answers and raises as `decide` does."""
        return _decision(seen, "approve", comment)

    @endpoint
    def deny(self, seen: Seen, *, comment: str | None = None) -> Call[ApprovalView]:
        """Refuses the call; the model is told, with the comment. Answers and raises as `decide` does."""
        return _decision(seen, "deny", comment)


def _decision(seen: Seen, decision: DecisionKind, comment: str | None) -> Call[ApprovalView]:
    request = body(decision=decision, arguments_sha256=seen.arguments_sha256, comment=comment)
    return Call(Request("POST", path("/v1/approvals/{}/decision", seen.id), body=request), reads(ApprovalView))
