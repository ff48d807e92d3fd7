"""Shows what `conductor doctor` found."""

from collections.abc import Sequence

from rich.text import Text

from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.screen import console
from conductor_ai.doctor import Check
from conductor_ai.visible import visible


def show_checks(checks: Sequence[Check]) -> ExitCode:
    """A line for each check and its advice below; FAILED if any is not ok."""
    out = console()
    for check in checks:
        sign, colour = ("✗", "red") if not check.ok else ("!", "yellow") if check.advice else ("✓", "green")
        out.print(Text.assemble((f"{sign} {check.name}: ", colour), visible(check.detail)), soft_wrap=True)
        if check.advice:
            out.print(Text(f"    {visible(check.advice)}"), soft_wrap=True)
    failed = sum(not check.ok for check in checks)
    out.print(Text(f"{failed} of {len(checks)} checks failed." if failed else "Everything that was checked works."))
    return ExitCode.FAILED if failed else ExitCode.COMPLETED
