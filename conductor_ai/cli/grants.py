"""`conductor grants`: list and revoke."""

from datetime import UTC, datetime

from rich.text import Text

from conductor_ai.cli import find, wording
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.lines import as_line
from conductor_ai.cli.screen import console
from conductor_ai.cli.server import talking
from conductor_ai.settings import Settings
from conductor_ai.visible import visible


async def list_grants(settings: Settings, *, everything: bool, limit: int, as_json: bool) -> ExitCode:
    """Prints what is approved without asking, or all that ever was."""
    async with talking(find.running(settings)) as client:
        page = await client.grants.list(live=not everything, limit=limit).page()
    if as_json:
        print(as_line(page))
        return ExitCode.COMPLETED
    out, now = console(), datetime.now(UTC)
    if not page.data:
        out.print("Nothing is approved without asking.")
    for each in page.data:
        held = "revoked" if each.revoked_at else wording.until(each.expires_at, now)
        uses = "" if each.uses_left is None else f", {each.uses_left} uses left"
        free = f", {', '.join(visible(name) for name in each.free)} free" if each.free else ""
        line = f"{each.id}  {visible(each.tool)}  {each.scope}, {each.match}{free}{uses}  {held}"
        out.print(Text(line), soft_wrap=True)
        out.print(Text(f"    by {visible(each.granted_by)}", style="dim"), soft_wrap=True)
    if page.has_more:
        out.print(f"There are more; --limit shows up to 200 (now {limit}).")
    return ExitCode.COMPLETED


async def revoke(settings: Settings, grant_id: str) -> ExitCode:
    """Revokes one grant; again does nothing."""
    async with talking(find.running(settings)) as client:
        await client.grants.revoke(grant_id)
    console().print("  Revoked. People are asked again.")
    return ExitCode.COMPLETED
