"""The directives that a user message may carry for the demo model: one a line, each beginning with `demo:`.

demo: think TEXT              what is said before the next calls or the answer
demo: call TOOL {…}           one tool call; what is no JSON object is sent as malformed arguments
demo: parallel [{"tool": …, "arguments": {…}}, …]    several calls in one step
demo: say TEXT                the answer; ends the session
demo: slow SECONDS            the next step takes that long to stream
demo: stop REASON             a step that stops with `max_tokens`, `refusal`, `pause`, `malformed` …
demo: fail KIND               a model failure of that kind, each time that it is asked
"""

import json
import re
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from activities.retries import Kind
from conductor_ai.compaction import LAST_MESSAGE
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import Stop

_LINE = re.compile(r"^[ \t]*demo:[ \t]*(\w+)[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_PART = re.compile(r"^## \d+\. (person|model|result) ?.*$", re.MULTILINE)
_STOPS = frozenset(stop.value for stop in Stop)
_KINDS = frozenset(kind.value for kind in Kind)
_CALLS = TypeAdapter(list[JsonObject])
LONGEST_STREAM = 600.0
"""Seconds; longer than any model call may take."""


@dataclass(frozen=True)
class ScriptedCall:
    """One call as written: arguments are None if they were no JSON object."""

    tool: str
    arguments: JsonObject | None
    raw: str


@dataclass(frozen=True)
class Step:
    """One model answer of a script."""

    think: str = ""
    calls: tuple[ScriptedCall, ...] = ()
    say: str | None = None
    slow: float = 0.0
    stop: Stop | None = None
    fail: Kind | None = None


def parse(text: str) -> tuple[Step, ...]:
    """The steps that a message scripts, in order; empty if it carries no directive.

    A directive that cannot be read becomes an answer that says so: a typing error must not look like a model's fault.
    """
    steps: list[Step] = []
    ahead = Step()
    text = text.partition(LAST_MESSAGE)[0]  # after a summary, which has what is left of the script
    for word, rest in _LINE.findall(text):
        match word:
            case "think":
                ahead = replace(ahead, think=f"{ahead.think} {rest}".strip())
                continue
            case "slow":
                ahead = replace(ahead, slow=_seconds(rest))
                continue
            case "call":
                tool, _, arguments = rest.partition(" ")
                step = replace(ahead, calls=(_call(tool, arguments.strip() or "{}"),))
            case "parallel":
                step = _parallel(ahead, rest)
            case "say":
                step = replace(ahead, say=rest)
            case "stop" if rest in _STOPS:
                step = replace(ahead, stop=Stop(rest))
            case "fail" if rest in _KINDS:
                step = replace(ahead, fail=Kind(rest))
            case _:
                step = replace(
                    ahead, say=f"The directive `demo: {word} {rest}` cannot be read; see the list of models."
                )
        steps.append(step)
        ahead = Step()
    if ahead != Step():
        steps.append(ahead)
    return tuple(steps)


def remaining(record: str) -> str:
    """What a summary must keep of a script: the directives of the last message that no answer has followed yet."""
    parts = _PART.split(record)[1:]
    people = [at for at in range(0, len(parts), 2) if parts[at] == "person"]
    if not people:
        return ""
    script = parts[people[-1] + 1]
    done = sum(parts[at] == "model" for at in range(people[-1], len(parts), 2))
    steps: list[list[str]] = [[]]
    for found in _LINE.finditer(script.partition(LAST_MESSAGE)[0]):
        steps[-1].append(found[0].strip())
        if found[1] not in ("think", "slow"):
            steps.append([])
    return "\n".join(line for step in steps[done:] for line in step)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return min(value, LONGEST_STREAM) if value > 0 else 0.0


def _call(tool: str, raw: str) -> ScriptedCall:
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    return ScriptedCall(tool, value if isinstance(value, dict) else None, raw)


def _parallel(ahead: Step, text: str) -> Step:
    try:
        entries = _CALLS.validate_json(text)
    except ValidationError:
        return replace(ahead, say="`demo: parallel` takes a JSON list of objects with `tool` and `arguments`.")
    calls = tuple(_call(str(entry.get("tool", "")), json.dumps(entry.get("arguments", {}))) for entry in entries)
    return replace(ahead, calls=calls)
