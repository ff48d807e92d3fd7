"""How things are said to a person. Pure; whatever comes from outside goes through `visible`."""

import json
from datetime import datetime

from rich.cells import cell_len

from conductor_ai.contracts.base import Json
from conductor_ai.contracts.status import CallState
from conductor_ai.visible import visible

EXCERPT_LINES = 8
EXCERPT_CHARACTERS = 800

STATES: dict[CallState, tuple[str, str]] = {
    CallState.READY: ("…", "cyan"),
    CallState.WAITING: ("?", "yellow"),
    CallState.EXECUTING: ("…", "cyan"),
    CallState.SUCCEEDED: ("✓", "green"),
    CallState.FAILED: ("✗", "red"),
    CallState.INVALID: ("✗", "red"),
    CallState.DENIED: ("⊘", "yellow"),
    CallState.EXPIRED: ("⊘", "yellow"),
    CallState.ABANDONED: ("⊘", "yellow"),
    CallState.OUTCOME_UNKNOWN: ("!", "red"),
}
"""A sign and a colour for the state of a call; the word itself is always written beside it."""


def money(usd: float) -> str:
    """A cost, with as many digits as say something."""
    return "$0" if usd == 0 else f"${usd:.4f}" if usd < 1 else f"${usd:,.2f}"


def tokens(input_: int, output: int) -> str:
    """Token counts in words."""
    return f"{input_:,} in, {output:,} out"


def steps(count: int) -> str:
    """How many steps a session has."""
    return "1 step" if count == 1 else f"{count} steps"


def moment(at: datetime | None) -> str:
    """A point in time, in the reader's own zone."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def until(at: datetime, now: datetime) -> str:
    """The time left, in the two largest units."""
    seconds = int((at - now).total_seconds())
    if seconds <= 0:
        return "no time left"
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h left"
    if hours:
        return f"{hours} h {minutes} min left"
    return f"{minutes} min {seconds % 60} s left" if minutes else f"{seconds} s left"


def on_one_line(value: Json, limit: int = 160) -> str:
    """A JSON value in a line, cut at `limit` characters."""
    text = visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def end_of_line(text: str, cells: int) -> str:
    """The end of a text, in one line that takes up so many cells of a terminal at most."""
    flat = " ".join(visible(text[-cells:]).split())
    while flat and cell_len(flat) > cells:
        flat = flat[1:]
    return flat


def arguments_in_full(arguments: Json) -> list[str]:
    """All of a call's arguments, long texts such as SQL with their own lines. Nothing is left out: somebody decides on it."""
    if not isinstance(arguments, dict):
        return visible(json.dumps(arguments, ensure_ascii=False)).splitlines()
    lines: list[str] = []
    for name, value in arguments.items():
        label = visible(name)
        if isinstance(value, str) and ("\n" in value or len(value) > 60):
            lines += [f"{label}:", *(f"    {line}" for line in visible(value).split("\n"))]
        else:
            lines.append(f"{label}: {visible(json.dumps(value, ensure_ascii=False))}")
    return lines


def excerpt(text: str) -> list[str]:
    """The beginning of a long text, and a word about the rest."""
    shown = visible(text[:EXCERPT_CHARACTERS])
    lines = [line for line in shown.split("\n") if line.strip()]
    cut = len(text) > EXCERPT_CHARACTERS or len(lines) > EXCERPT_LINES
    return [*lines[:EXCERPT_LINES], *(["…"] if cut else [])]
