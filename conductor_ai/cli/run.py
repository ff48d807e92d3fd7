"""`conductor run`: starts a session and follows it."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conductor_ai.cli import find, hints
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.deciding import ApproveAll, Decider
from conductor_ai.cli.find import Place
from conductor_ai.cli.follow import Follower, Output
from conductor_ai.cli.lines import JsonLines
from conductor_ai.cli.screen import Screen, console
from conductor_ai.cli.server import talking
from conductor_ai.cli.terminal import TerminalDecider
from conductor_ai.client import AsyncConductor
from conductor_ai.contracts.answers import RunAccepted
from conductor_ai.settings import Settings


@dataclass(frozen=True)
class RunOptions:
    """What the command line says."""

    task: str
    model: str | None = None
    tools: tuple[str, ...] | None = None
    """None: the server's default set. Empty: none."""
    max_steps: int | None = None
    system: str | None = None
    approve_all: bool = False
    json: bool = False
    data_dir: Path | None = None
    """As given on the command line, for the hints; the settings hold the one in force."""


@dataclass
class Journey:
    """How far a run has come, for whoever has to explain an interruption."""

    place: Place | None = None
    session_id: str | None = None
    said: list[str] = field(default_factory=list)

    def goes_on(self, data_dir: Path | None) -> list[str]:
        """What becomes of the session; empty if none was started."""
        if self.place is None or self.session_id is None:
            return []
        return hints.goes_on(self.place, self.session_id, data_dir)


async def run(settings: Settings, options: RunOptions, journey: Journey) -> ExitCode:
    """Runs one session.

    Raises:
        Unavailable: no server, and no stack can be started. InvalidRequest, Refused: the server says so.
    """
    async with serving(settings) as place, talking(place) as client:
        journey.place = place
        started = await start(client, options)
        journey.session_id = started.session_id
        ending = await Follower(client, _output(options, linker(place, started)), _decider(options)).follow(
            started.session_id
        )
        if ending.code is ExitCode.WAITS:
            journey.said = hints.how_to_decide(place, ending.session, options.data_dir)
        return ending.code


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Place]:
    """The server of the settings, the running `conductor dev`, or a stack for the time of the block."""
    found = find.of_settings(settings) or find.of_dev(settings)
    if found is not None:
        yield found
        return
    console(stderr=True).print(
        "No server runs: Postgres, Temporal, Redis, worker and API start for the time of this command.", soft_wrap=True
    )
    async with find.own_stack(settings) as place:
        yield place


async def start(client: AsyncConductor, options: RunOptions) -> RunAccepted:
    """Starts the session. What the command line leaves open is left to the server."""
    return await client.sessions.run(
        options.task,
        model=options.model,
        tools=options.tools,
        max_steps=options.max_steps,
        system_prompt=options.system,
    )


def linker(place: Place, started: RunAccepted) -> Callable[[str], str | None]:
    """Where a session is in Temporal's UI: as the server says, else as far as this side knows."""
    said = started.links.get("temporal")
    return lambda session_id: said or place.workflow_url(session_id)


def _output(options: RunOptions, link: Callable[[str], str | None]) -> Output:
    if options.json:
        return JsonLines(sys.stdout, link=link)
    return Screen(console(), link=link)


def _decider(options: RunOptions) -> Decider | None:
    if options.approve_all:
        return ApproveAll()
    if options.json or not at_terminal():
        return None
    return TerminalDecider(console(), sys.stdin.fileno())


def at_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()
