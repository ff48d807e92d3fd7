"""`client.approvals`: the calls that wait for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from conductor_ai.client.endpoint import Resource, W, endpoint, listing
from conductor_ai.client.paging import Paged, paged
from conductor_ai.client.reading import parsed, reads
from conductor_ai.client.steps import Call, Request, body, path, query
from conductor_ai.contracts.answers import BatchAnswer, BatchResult, Page
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.decisions import DecisionKind
from conductor_ai.contracts.grants import GrantView, Remember
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


@dataclass(frozen=True)
class Choice:
    """One decision of many."""

    seen: Seen
    decision: DecisionKind
    comment: str | None = None
    arguments: JsonObject | None = None
    """With `edit`: all arguments, as they are to be."""
    answer: str | None = None
    """With `answer`: what the model is told."""
    remember: Remember | None = None
    """With `approve`."""

    @property
    def body(self) -> JsonObject:
        """As the API takes it."""
        return body(
            decision=self.decision,
            arguments_sha256=self.seen.arguments_sha256,
            comment=self.comment,
            arguments=self.arguments,
            answer=self.answer,
            remember=None if self.remember is None else self.remember.model_dump(mode="json"),
        )


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
    def decide(
        self,
        seen: Seen,
        decision: DecisionKind,
        *,
        comment: str | None = None,
        arguments: JsonObject | None = None,
        answer: str | None = None,
        remember: Remember | None = None,
    ) -> Call[ApprovalView]:
        """Decides about exactly what was seen.

        Args:
            arguments: with `edit`, all of the call's arguments as they are to be.
            answer: with `answer`, what the model is told in the tool's place.
            remember: with `approve`, which calls to come are approved as well.

        Returns:
            The approval as it is now. Still `pending`: no worker has taken the decision yet; it is on its way.

        Raises:
            AlreadyDecided: otherwise, by somebody else. The same decision again is no error.
            ApprovalExpired, ApprovalClosed: it is too late.
            DigestMismatch: the call has other arguments than those that were seen.
            InvalidRequest: the new arguments are not possible.
            Forbidden: the key may not decide. NotFound: there is none.
        """
        return _decision(Choice(seen, decision, comment, arguments, answer, remember))

    @endpoint
    def approve(
        self, seen: Seen, *, comment: str | None = None, remember: Remember | None = None
    ) -> Call[ApprovalView]:
        """Lets the call run, with the arguments that were seen. Answers and raises as `decide` does."""
        return _decision(Choice(seen, "approve", comment, remember=remember))

    @endpoint
    def deny(self, seen: Seen, *, comment: str | None = None) -> Call[ApprovalView]:
        """Refuses the call; the model is told, with the comment. Answers and raises as `decide` does."""
        return _decision(Choice(seen, "deny", comment))

    @endpoint
    def edit(self, seen: Seen, arguments: JsonObject, *, comment: str | None = None) -> Call[ApprovalView]:
        """Gives the call other arguments. It is put to the policy again: if that asks, another approval shows what they would do."""
        return _decision(Choice(seen, "edit", comment, arguments=arguments))

    @endpoint
    def answer(self, seen: Seen, answer: str, *, comment: str | None = None) -> Call[ApprovalView]:
        """Gives the call's result in the tool's place; nothing runs."""
        return _decision(Choice(seen, "answer", comment, answer=answer))

    @endpoint
    def decide_many(self, choices: Sequence[Choice]) -> Call[tuple[BatchResult, ...]]:
        """Decides about up to 50 calls, each on its own: there is no all or nothing.

        Returns:
            A result for each, in their order, with the status and the code that it would have had alone.
        """
        decisions = [{**choice.body, "approval_id": choice.seen.id} for choice in choices]
        request = Request("POST", "/v1/approvals/decisions", body=body(decisions=decisions))
        return Call(request, lambda answer: parsed(BatchAnswer, answer.content).results)


class Grants(Resource[W]):
    """Approvals that are remembered. They are made with a decision (`remember`)."""

    @listing
    def list(self, *, live: bool | None = None, limit: int = 50, cursor: str | None = None) -> Paged[GrantView]:
        """What is approved without asking, newest first.

        Args:
            live: only those that still can approve something, which is the server's default; False for all.
            limit: entries of one page, 1 to 200. Iterating goes through all pages.
            cursor: `next_cursor` of a page, to begin after it.
        """
        return paged(Page[GrantView], Request("GET", "/v1/grants", query(live=live, limit=limit, cursor=cursor)))

    @endpoint
    def get(self, grant_id: str) -> Call[GrantView]:
        """What it covers, how often still, and who gave it.

        Raises:
            NotFound: there is none.
        """
        return Call(Request("GET", path("/v1/grants/{}", grant_id)), reads(GrantView))

    @endpoint
    def revoke(self, grant_id: str) -> Call[GrantView]:
        """From now on people are asked again. Calls that it has approved already stay approved. Again: the same answer.

        Raises:
            NotFound: there is none. Forbidden: the key may not decide.
        """
        return Call(Request("DELETE", path("/v1/grants/{}", grant_id)), reads(GrantView))


def _decision(choice: Choice) -> Call[ApprovalView]:
    request = Request("POST", path("/v1/approvals/{}/decision", choice.seen.id), body=choice.body)
    return Call(request, reads(ApprovalView))
