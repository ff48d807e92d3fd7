"""Options that several commands have, and how a command ends."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from conductor_ai.cli.codes import ExitCode
    from conductor_ai.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the embedded stack keeps its data (CONDUCTOR_DATA_DIR; .conductor)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=200, help="Most entries to print.")]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id, sess_….")]
ApprovalId = Annotated[str, typer.Argument(metavar="APPROVAL", help="The approval's id, appr_….")]
Comment = Annotated[
    str | None, typer.Option("--comment", help="For the record; the model is told it when a call is denied.")
]


def settings_of(data_dir: Path | None = None) -> "Settings":
    """The settings of this command.

    Raises:
        ConfigurationError: they are not possible.
    """
    from conductor_ai.settings import load

    settings = load()
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})


def end(work: "Coroutine[Any, Any, ExitCode]") -> None:
    """Does one thing and exits with its code."""
    import asyncio

    raise typer.Exit(asyncio.run(work))
