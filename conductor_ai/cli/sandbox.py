"""The commands about the sandbox of `code_run`. They work on the machine where they run, as a worker there would."""

import asyncio

from rich.text import Text

from conductor_ai import wiring
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.health import show_checks
from conductor_ai.cli.screen import console
from conductor_ai.settings import Settings
from conductor_ai.visible import visible

WITHOUT_IMAGES = ("bubblewrap", "off")


def prepare(settings: Settings, *, base_python: str | None, base_node: str | None, data: bool) -> ExitCode:
    """Sees to the images of Docker's sandbox."""
    out = console()
    if settings.sandbox in WITHOUT_IMAGES:
        out.print(f"CONDUCTOR_SANDBOX={settings.sandbox} needs no images: nothing to do.")
        return ExitCode.COMPLETED

    def tell(line: str) -> None:
        out.print(Text(visible(line)), soft_wrap=True)

    asyncio.run(wiring.prepare_sandbox(settings, tell, base_python=base_python, base_node=base_node, data=data))
    return ExitCode.COMPLETED


def check(settings: Settings) -> ExitCode:
    """Tries the sandbox that a worker here would use, and each of its limits."""
    return show_checks(asyncio.run(wiring.check_sandbox(settings)))


def reap(settings: Settings) -> ExitCode:
    """Removes what dead workers left behind."""
    out = console()
    if settings.sandbox in WITHOUT_IMAGES:
        out.print(f"CONDUCTOR_SANDBOX={settings.sandbox} leaves nothing behind: nothing to do.")
        return ExitCode.COMPLETED
    removed = asyncio.run(wiring.reap_sandbox(settings))
    out.print(f"Removed {removed} left-over containers." if removed else "There were no left-over containers.")
    return ExitCode.COMPLETED
