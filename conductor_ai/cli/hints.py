"""What to type next. Pure."""

import shlex
from pathlib import Path

from conductor_ai.cli.find import Origin, Place
from conductor_ai.contracts.views import SessionView
from conductor_ai.visible import visible


def command(words: str, data_dir: Path | None) -> str:
    """A command to type; `data_dir` if it was given on the command line and so is needed again."""
    return f"conductor {words}" + (f" --data-dir {shlex.quote(str(data_dir))}" if data_dir is not None else "")


def goes_on(place: Place, session_id: str, data_dir: Path | None) -> list[str]:
    """For somebody who stops to follow a session that has not ended."""
    lines = []
    if place.origin is Origin.EMBEDDED:
        lines.append(
            f"The servers of this run are stopped. Session {session_id} is kept in {place.data_dir} and goes on as soon "
            f"as they run again: `{command('dev', data_dir)}`."
        )
    else:
        lines.append(f"Session {session_id} goes on without this command.")
    lines.append(f"Look at it with `{command(f'sessions show {session_id}', data_dir)}`.")
    lines.append(f"Cancel it with  `{command(f'sessions cancel {session_id}', data_dir)}`.")
    return lines


def how_to_decide(place: Place, session: SessionView, data_dir: Path | None) -> list[str]:
    """For somebody whose session waits for a person."""
    lines = []
    if place.origin is Origin.EMBEDDED:
        lines.append(
            f"The servers of this run are stopped; the session is kept in {place.data_dir}. Start them again with "
            f"`{command('dev', data_dir)}`, then:"
        )
    for approval in session.pending_approvals:
        lines.append(f"{visible(approval.tool)} waits for a decision. See it, then decide:")
        lines += [f"  {command(f'approvals {word} {approval.id}', data_dir)}" for word in ("show", "approve", "deny")]
    if not session.pending_approvals:
        lines.append(
            f"Session {session.session_id} waits for a person: {visible(session.waiting_for or session.phase.value)}."
        )
        lines.append(f"  {command(f'sessions show {session.session_id}', data_dir)}")
    return lines
