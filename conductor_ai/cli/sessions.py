"""`conductor sessions`: list, show, cancel."""

from pathlib import Path

from rich.text import Text

from conductor_ai.cli import find, hints, wording
from conductor_ai.cli.codes import ExitCode, of_status
from conductor_ai.cli.follow import Ending
from conductor_ai.cli.lines import as_line
from conductor_ai.cli.progress import Progress
from conductor_ai.cli.screen import Screen, console
from conductor_ai.cli.server import talking
from conductor_ai.contracts.status import Status
from conductor_ai.settings import Settings
from conductor_ai.visible import visible


async def list_sessions(settings: Settings, *, status: Status | None, limit: int, as_json: bool) -> ExitCode:
    """Prints the newest sessions."""
    place = find.running(settings)
    async with talking(place) as client:
        page = await client.sessions.list(status=status, limit=limit).page()
    if as_json:
        print(as_line(page))
        return ExitCode.COMPLETED
    out = console()
    if not page.data:
        which = "" if status is None else f" that are {status.value}"
        out.print(f"There are no sessions{which}{' among the newest' if page.has_more else ''}.")
        return ExitCode.COMPLETED
    for each in page.data:
        told = (
            each.session_id,
            f"{each.status.value:9}",
            wording.moment(each.created_at),
            visible(each.model),
            wording.steps(each.step_count),
            wording.money(each.total_cost_usd),
            *(() if each.status.ended else (each.phase.value,)),
        )
        out.print(Text("  ".join(told)), soft_wrap=True)
        if each.title:
            out.print(Text(f"    {wording.on_one_line(each.title, 100)}", style="dim"), soft_wrap=True)
    if page.has_more:
        out.print(f"There are more; --limit shows up to 200 (now {limit}).")
    return ExitCode.COMPLETED


async def show_session(settings: Settings, session_id: str, *, as_json: bool, data_dir: Path | None) -> ExitCode:
    """Prints one session with all its steps."""
    place = find.running(settings)
    async with talking(place) as client:
        view = await client.sessions.get(session_id)
    if as_json:
        print(as_line(view))
        return ExitCode.COMPLETED
    screen = Screen(console(), link=place.workflow_url)
    for event in Progress().update(view):
        screen.show(event)
    screen.show(Ending(of_status(view.status) if view.status.ended else ExitCode.WAITS, view))
    if view.pending_approvals:
        for line in hints.how_to_decide(place, view, data_dir):
            console().print(Text(line), soft_wrap=True)
    elif not view.status.ended:
        words = f"sessions explain {view.session_id}"
        console().print(Text(f"Does it not move? `{hints.command(words, data_dir)}` says why."), soft_wrap=True)
    return ExitCode.COMPLETED


async def cancel_session(settings: Settings, session_id: str, reason: str | None) -> ExitCode:
    """Cancels one session."""
    place = find.running(settings)
    async with talking(place) as client:
        answer = await client.sessions.cancel(session_id, reason=reason)
    console().print(Text(f"{visible(answer.message)} ({answer.status.value})"), soft_wrap=True)
    return ExitCode.COMPLETED
