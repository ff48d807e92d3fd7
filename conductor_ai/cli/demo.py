"""`conductor demo`: the demo model with all three tools, one query approved and one change denied, explained as it goes."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conductor_ai.catalog import DEMO
from conductor_ai.cli import find, wording
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.deciding import Answer, Choice, Decider
from conductor_ai.cli.find import Origin, Place
from conductor_ai.cli.follow import Follower
from conductor_ai.cli.run import Journey, RunOptions, linker, start
from conductor_ai.cli.screen import Screen, console
from conductor_ai.cli.server import talking
from conductor_ai.cli.terminal import TerminalDecider
from conductor_ai.client import AsyncConductor
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.status import CallState, Status
from conductor_ai.contracts.views import ActionView, ApprovalView, SessionView
from conductor_ai.errors import Unavailable
from conductor_ai.settings import Settings
from conductor_ai.visible import visible

NEEDED = ("web_fetch", "sql_query")
OPTIONAL = "code_run"
"""Off where there is no sandbox; then the demo does without."""
TOOLS_SECONDS = 20.0
DENIAL = "The demo says no to show what a denial does: the prices stay as they are"


def task(page_url: str) -> str:
    """The demo task. The demo model reads the address, and works through its script because there is one."""
    return (
        f"Read the page {page_url} and count its words and numbers with Python. Then look at the prices in the shop's "
        "database, and change them as the page says."
    )


class DemoDecider:
    """Approves a query that only reads and denies everything else; or passes the question on. Remembers each answer."""

    def __init__(self, ask: Decider | None) -> None:
        self._ask = ask
        self.answers: dict[str, Answer] = {}
        """By call id."""

    async def choose(self, approval: ApprovalView) -> Choice:
        choice = await self._ask.choose(approval) if self._ask is not None else scripted(approval)
        self.answers[approval.call_id] = choice.answer
        return choice


def scripted(approval: ApprovalView) -> Choice:
    """The demo's own answer. It is about the demo's own two statements, on the demo's own database: no rule for others."""
    if approval.tool == "sql_query" and _query(approval.arguments).lstrip().upper().startswith("SELECT "):
        return Choice(Answer.APPROVE, because="you would be asked here; the demo approves, because it only reads")
    return Choice(
        Answer.DENY, comment=DENIAL, because="you would be asked here; the demo denies, because it would change data"
    )


def shortfalls(view: SessionView, tools: tuple[str, ...], answers: dict[str, Answer], *, asked: bool) -> list[str]:
    """What did not go as it should, a sentence each. With `asked`, a person decided and may have decided anything."""
    found: list[str] = []
    if view.status is not Status.COMPLETED:
        found.append(f"The session is {view.status.value} and not completed.")
    actions = [action for step in view.steps for action in step.actions]
    missing = [tool for tool in tools if not any(action.tool_name == tool for action in actions)]
    found += [f"{tool} was never called." for tool in missing]
    for action in actions:
        wanted = CallState.DENIED if answers.get(action.call_id) is Answer.DENY else CallState.SUCCEEDED
        if action.status is not wanted:
            found.append(f"A call of {action.tool_name} is {action.status.value} and not {wanted.value}.")
    if not asked:
        for answer in (Answer.APPROVE, Answer.DENY):
            if answer not in answers.values():
                found.append(f"Nothing was there to {answer.value}.")
    return found


async def demo(settings: Settings, *, ask: bool, data_dir: Path | None, journey: Journey) -> ExitCode:
    """Runs the demo.

    Raises:
        Unavailable: the stack cannot start.
    """
    out = console()
    # The demo works on its own shop, whatever database sql_query has otherwise.
    settings = settings.model_copy(update={"sql_url": None, "sql_role": None})
    async with _serving(settings, out) as place, talking(place) as client:
        journey.place = place
        tools = await _tools(client, out)
        options = RunOptions(task=task(place.page_url or ""), model=DEMO, tools=tools, max_steps=10, data_dir=data_dir)
        started = await start(client, options)
        journey.session_id = started.session_id
        link = linker(place, started)
        decider = DemoDecider(TerminalDecider(out, sys.stdin.fileno()) if ask else None)
        await Follower(client, Screen(out, link=link), decider).follow(started.session_id)
        view = await client.sessions.get(started.session_id)
        _table(out, view, decider.answers)
        _links(out, place, link(view.session_id), data_dir)
        problems = shortfalls(view, tools, decider.answers, asked=ask)
        if not view.status.ended:
            return ExitCode.WAITS
        for problem in problems:
            out.print(Text(f"Not as it should be: {problem}", style="bold red"), soft_wrap=True)
        if not problems:
            out.print(Text("The demo went as it should.", style="bold green"))
        return ExitCode.FAILED if problems else ExitCode.COMPLETED


@asynccontextmanager
async def _serving(settings: Settings, out: Console) -> AsyncIterator[Place]:
    """The running `conductor dev`, or a stack for the time of the demo. Never another server: it has no demo page and shop."""
    found = find.of_dev(settings)
    if found is not None:
        out.print(f"Using the running `conductor dev` at {found.url}.", soft_wrap=True)
        yield found
        return
    out.print(
        "Starting Postgres, Temporal, Redis, a page to read, worker and API for the time of the demo.", soft_wrap=True
    )
    began = time.monotonic()
    async with find.own_stack(settings) as place:
        out.print(f"They run after {time.monotonic() - began:.1f} s: {place.url}", soft_wrap=True)
        yield place


async def _tools(client: AsyncConductor, out: Console) -> tuple[str, ...]:
    """The tools of the demo that work here. Workers publish theirs as they start, so it waits a little for all three."""
    until = time.monotonic() + TOOLS_SECONDS
    while True:
        listed = {tool.name: tool for tool in await client.tools.list()}
        if all(name in listed for name in (*NEEDED, OPTIONAL)) or time.monotonic() > until:
            break
        await asyncio.sleep(0.2)
    for name in NEEDED:
        if name not in listed or not listed[name].available:
            note = visible((listed[name].note if name in listed else None) or "No worker offers it.")
            raise Unavailable(f"The demo needs the tool {name}, which is not available here. {note}")
    sandbox = listed.get(OPTIONAL)
    if sandbox is not None and sandbox.available:
        if sandbox.note:
            out.print(Text(f"code_run: {visible(sandbox.note)}"), soft_wrap=True)
        return ("web_fetch", OPTIONAL, "sql_query")
    reason = visible((sandbox.note if sandbox is not None else None) or "No worker offers it.")
    out.print(
        Text(f"code_run is off here, so the demo runs the other two tools. {reason}", style="yellow"), soft_wrap=True
    )
    return NEEDED


def _table(out: Console, view: SessionView, answers: dict[str, Answer]) -> None:
    table = Table(title="What happened", title_justify="left", box=SIMPLE_HEAD)
    for head in ("step", "tool", "arguments", "a person", "outcome"):
        table.add_column(head, overflow="fold")
    for step in view.steps:
        if not step.actions:
            table.add_row(str(step.step_number), "", Text("the answer" if step.is_final else ""), "", "")
        for action in step.actions:
            sign, colour = wording.STATES[action.status]
            table.add_row(
                str(step.step_number),
                Text(visible(action.tool_name)),
                Text(_short(action)),
                {Answer.APPROVE: "approved", Answer.DENY: "denied"}.get(
                    answers.get(action.call_id, Answer.QUIT), "not asked"
                ),
                Text(f"{sign} {action.status.value}", style=colour),
            )
    out.print()
    out.print(table)


def _links(out: Console, place: Place, link: str | None, data_dir: Path | None) -> None:
    if link is not None:
        out.print(Text(f"The workflow in Temporal's UI: {link}"), soft_wrap=True)
    if place.origin is Origin.EMBEDDED:
        again = "conductor dev" + (f" --data-dir {data_dir}" if data_dir is not None else "")
        out.print(
            Text(
                f"The servers stop with the demo; `{again}` starts them again with this session, and says where the UI is then."
            ),
            soft_wrap=True,
        )


def _short(action: ActionView) -> str:
    match action.arguments:
        case {"query": str(query)}:
            return wording.on_one_line(query, 90)
        case {"url": str(url)}:
            return wording.on_one_line(url, 90)
        case {"code": str(code), "language": str(language)}:
            return visible(f"{len(code.splitlines())} lines of {language}")
        case other:
            return wording.on_one_line(other, 90)


def _query(arguments: Json) -> str:
    value = arguments.get("query") if isinstance(arguments, dict) else None
    return value if isinstance(value, str) else ""
