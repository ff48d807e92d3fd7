"""`conductor approvals`: list, show, approve, deny, edit, answer."""

from datetime import UTC, datetime

from rich.text import Text

from conductor_ai.cli import find, wording
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.lines import as_line
from conductor_ai.cli.screen import console, show_approval
from conductor_ai.cli.server import talking
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.decisions import DecisionKind
from conductor_ai.contracts.grants import Remember
from conductor_ai.contracts.status import ApprovalStatus
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.settings import Settings
from conductor_ai.visible import visible


async def list_approvals(settings: Settings, *, everything: bool, limit: int, as_json: bool) -> ExitCode:
    """Prints the calls that wait for a person, or all that ever did."""
    place = find.running(settings)
    async with talking(place) as client:
        status = None if everything else ApprovalStatus.PENDING
        page = await client.approvals.list(status=status, limit=limit).page()
    if as_json:
        print(as_line(page))
        return ExitCode.COMPLETED
    out = console()
    if not page.data:
        out.print("No call has ever waited for a person." if everything else "No call waits for a person.")
        return ExitCode.COMPLETED
    now = datetime.now(UTC)
    for each in page.data:
        pending = each.status is ApprovalStatus.PENDING
        told = (
            each.id,
            f"{each.status.value:9}",
            visible(each.tool),
            f"risk {each.risk}",
            wording.until(each.expires_at, now) if pending else wording.moment(each.requested_at),
        )
        out.print(Text("  ".join(told)), soft_wrap=True)
        out.print(Text(f"    {wording.on_one_line(each.summary, 100)}", style="dim"), soft_wrap=True)
    if page.has_more:
        out.print(f"There are more; --limit shows up to 200 (now {limit}).")
    return ExitCode.COMPLETED


async def show_one(settings: Settings, approval_id: str, *, as_json: bool) -> ExitCode:
    """Prints one approval with all that is known of its consequence."""
    place = find.running(settings)
    async with talking(place) as client:
        approval = await client.approvals.get(approval_id)
    if as_json:
        print(as_line(approval))
        return ExitCode.COMPLETED
    show_approval(console(), approval, datetime.now(UTC))
    _state(approval)
    return ExitCode.COMPLETED


WORDS: dict[DecisionKind, str] = {
    "approve": "Approved",
    "deny": "Denied",
    "edit": "Edited; if the policy asks, another approval shows what the new arguments would do",
    "answer": "Answered",
}


async def decide(
    settings: Settings,
    approval_id: str,
    decision: DecisionKind,
    comment: str | None,
    *,
    arguments: JsonObject | None = None,
    answer: str | None = None,
    remember: Remember | None = None,
) -> ExitCode:
    """Shows one approval, and decides about exactly what is shown.

    Raises:
        Conflict: somebody decided otherwise, its time is over, or its session has ended.
    """
    place = find.running(settings)
    async with talking(place) as client:
        approval = await client.approvals.get(approval_id)
        show_approval(console(), approval, datetime.now(UTC))
        decided = await client.approvals.decide(
            approval, decision, comment=comment, arguments=arguments, answer=answer, remember=remember
        )
    way = (
        ""
        if decided.status is not ApprovalStatus.PENDING
        else " The decision is on its way: no worker has taken it yet."
    )
    console().print(f"  {WORDS[decision]}.{way}", soft_wrap=True)
    return ExitCode.COMPLETED


def _state(approval: ApprovalView) -> None:
    out = console()
    out.print(f"  Status {approval.status.value}, execution {approval.execution.state}.", soft_wrap=True)
    for each in approval.decisions:
        proved = "" if each.verified else ", not verified"
        counted = "" if each.counted else ", did not count"
        comment = f": {visible(each.comment)}" if each.comment else ""
        text = f"  {each.decision} by {visible(each.by)} at {wording.moment(each.at)} ({each.via}{proved}{counted}){comment}"
        out.print(Text(text), soft_wrap=True)
