"""`conductor sessions pause`, `resume`, `budget` and `message`."""

from typing import Any

from rich.text import Text

from conductor_ai.cli import find
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.screen import console
from conductor_ai.cli.server import talking
from conductor_ai.contracts.views import SessionView
from conductor_ai.settings import Settings
from conductor_ai.visible import visible


def _shown(view: SessionView) -> ExitCode:
    waits = f" It waits for {visible(view.waiting_for)}." if view.waiting_for else ""
    console().print(Text(f"  {view.status.value}, {view.phase.value}.{waits}"), soft_wrap=True)
    return ExitCode.COMPLETED


async def pause(settings: Settings, session_id: str, reason: str | None) -> ExitCode:
    """Pauses before the next step, and shows the session."""
    async with talking(find.running(settings)) as client:
        return _shown(await client.sessions.pause(session_id, reason=reason))


async def resume(settings: Settings, session_id: str) -> ExitCode:
    """Goes on, and shows the session."""
    async with talking(find.running(settings)) as client:
        return _shown(await client.sessions.resume(session_id))


async def budget(settings: Settings, session_id: str, cost: float | None, tokens: int | None) -> ExitCode:
    """Changes the limits that are named, and shows the session."""
    given: dict[str, Any] = {"max_cost_usd": cost, "max_total_tokens": tokens}
    named = {name: value for name, value in given.items() if value is not None}
    async with talking(find.running(settings)) as client:
        return _shown(await client.sessions.update_budget(session_id, **named))


async def message(settings: Settings, session_id: str, text: str, *, interrupt: bool) -> ExitCode:
    """Writes to the session."""
    async with talking(find.running(settings)) as client:
        await client.sessions.send_message(session_id, text, if_busy="interrupt" if interrupt else "enqueue")
    console().print("  It is read before the model's next answer.")
    return ExitCode.COMPLETED
