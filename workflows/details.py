"""What Temporal's UI shows of a session: Markdown, made for a person who has nothing but that page."""

import json
from datetime import datetime

from conductor_ai.contracts.session import CallRef, Carried, SessionInput
from conductor_ai.names import DECIDE, RESUME
from conductor_ai.visible import unlinked, visible
from workflows.loop import model_of
from workflows.pending import Asked, Waiting


def _fenced(text: str) -> str:
    """Text from outside as text: no Markdown of its own, no invisible characters."""
    text = visible(text)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def _signal(waiting: Waiting, decision: str) -> str:
    # One field a line: a long line is cut off on that page, and what is cut off cannot be copied.
    body: dict[str, object] = {
        "call_id": waiting.call_id,
        "decision": decision,
        "arguments_sha256": waiting.arguments_sha256,
    }
    if waiting.round > 1:
        body["round"] = waiting.round
    return json.dumps(body, indent=1)


def _ran(call: CallRef) -> str:
    return f"- **{unlinked(call.tool)}** {call.state} ({call.call_id})\n{_fenced(call.preview)}"


def details(
    session: SessionInput,
    state: Carried,
    doing: str,
    waiting: dict[Asked, Waiting],
    *,
    now: datetime,
    said: str = "",
    ran: tuple[CallRef, ...] = (),
) -> str:
    """The current details: state, steps, cost, and for each waiting call what to paste to decide it.

    `ran`: calls of the last answer that no activity of their own shows.
    """
    lines = [
        f"**{doing}** · step {state.steps} of {session.max_steps} · "
        f"{state.tally.input_tokens + state.tally.output_tokens} tokens · ${state.tally.cost_usd:.4f} · {unlinked(model_of(session, state))}",
        f"_as of {now:%Y-%m-%d %H:%M:%S} UTC_",
    ]
    if said:
        lines += ["", "The model says:", _fenced(said)]
    if ran:
        lines += ["", "Run together with that answer:", *(_ran(call) for call in ran)]
    if state.pause is not None:
        lines += ["", f"### Paused: {state.pause.kind.value}", _fenced(state.pause.reason)]
        if session.allow_signals:
            lines.append(f"To let it go on, send the signal `{RESUME}` with the input `{{}}`.")
    for call in waiting.values():
        lines += [
            "",
            f"### Waits for a decision: {call.tool}",
            _fenced(call.preview),
            *([_fenced(call.summary)] if call.summary else []),
            f"Expires {call.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
        ]
        if session.allow_signals:
            lines += [
                f"To **approve** it here, send the signal `{DECIDE}` with this input:",
                _fenced(_signal(call, "approve")),
                "To **deny** it:",
                _fenced(_signal(call, "deny")),
            ]
        else:
            lines.append("Decide through the API: signals are switched off.")
    return "\n".join(lines)
