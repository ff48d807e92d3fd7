"""What the model is told of a call that did not simply run. One place, because each sentence steers what it does next.

None of them invites the model to propose the same call again, but for the one case where that is safe and wanted.
"""

import json

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.tools import ToolError, ToolResult
from conductor_ai.text import shorten

EDIT_BYTES = 4 * 1024


def refusal(code: str, message: str) -> ToolResult:
    """A failure with a stable code."""
    return ToolResult(ok=False, content=message, error=ToolError(code=code, message=message))


def outcome_unknown() -> ToolResult:
    """A call that may or may not have happened."""
    return refusal(
        "outcome_unknown",
        "The call was interrupted and it is not known whether it took effect. Do not repeat it blindly: check first.",
    )


def denied(comment: str | None) -> ToolResult:
    """A person said no."""
    said = f' They said: "{comment}".' if comment else ""
    return refusal(
        "denied",
        f"A person looked at this call and denied it; it was not run.{said} Do not propose it again. Go on without it, or "
        "ask what they would accept.",
    )


def denied_again(times: int) -> ToolResult:
    """The same call was denied before."""
    return refusal(
        "denied",
        f"Exactly this call was denied before; it was not run, and nobody was asked again (proposed {times} times now). "
        "It stays denied in this session. Go on without it.",
    )


def answered(text: str) -> ToolResult:
    """A person gave the result."""
    return ToolResult(ok=True, content=text)


ANSWERED_NOTE = "A person answered this call in the tool's place; the tool was not run. Their answer:"


def edited_note(arguments: JsonObject) -> str:
    """What is put before the result of a call whose arguments a person changed."""
    text = shorten(json.dumps(arguments, ensure_ascii=False), EDIT_BYTES)
    return f"A person changed the arguments of this call before it ran. They now are: {text}"


def asked_again_note(why: str) -> str:
    """What is put before the result of a call that had to be asked once more."""
    return f"After its approval this call was not run as it stood, and people were asked again: {why}"


def edit_invalid(problem: str) -> ToolResult:
    """A person's arguments do not fit the tool."""
    return refusal(
        "edit_invalid",
        f"A person changed the arguments of this call, but they do not fit the tool ({problem}); it was not run. Go on "
        "without it, or ask them.",
    )


def answer_missing() -> ToolResult:
    """A decision said `answer`, but nobody's answer is stored."""
    return refusal("denied", "A person took this call over and it was not run, but their answer is not known.")


def expired(*, denies: bool) -> ToolResult:
    """Nobody decided in time."""
    if denies:
        return refusal(
            "approval_expired",
            "Nobody decided about this call in time, which here counts as a denial; it was not run. Do not propose it "
            "again. Go on without it and say what is missing.",
        )
    return refusal(
        "approval_expired",
        "Nobody decided about this call in time; it was not run. That is not a denial, but do not wait for it: go on "
        "without it and say what is missing.",
    )


def interrupted() -> ToolResult:
    """Somebody wrote a message instead of deciding."""
    return refusal("interrupted", "A person wrote a message instead of deciding about this call; it was not run.")


def policy_denied(rule: str) -> ToolResult:
    """The policy refuses the call."""
    return refusal("policy_denied", f"The policy does not allow this call ({rule}); it was not run.")


def tool_unavailable(message: str) -> ToolResult:
    """The tool's infrastructure stayed away."""
    return refusal("tool_unavailable", f"The tool is not available right now: {message} Go on without it.")


def told(notes: list[str], content: str) -> str:
    """A result as the model is told it: what it has to know first, then the result itself."""
    return "\n".join([*notes, content]) if notes else content
