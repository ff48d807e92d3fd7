"""What Temporal's UI shows of a session: Markdown, made for a person who has nothing but that page."""

import json
from datetime import datetime

from conductor_ai.contracts.session import Carried, SessionInput
from conductor_ai.names import DECIDE
from workflows.pending import Waiting


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def _signal(waiting: Waiting, decision: str) -> str:
    return json.dumps({"call_id": waiting.call_id, "decision": decision, "arguments_sha256": waiting.arguments_sha256})


def details(
    session: SessionInput, state: Carried, doing: str, waiting: dict[str, Waiting], *, now: datetime, said: str = ""
) -> str:
    """The current details: state, steps, cost, and for each waiting call what to paste to decide it."""
    lines = [
        f"**{doing}** · step {state.steps} of {session.max_steps} · "
        f"{state.tally.input_tokens + state.tally.output_tokens} tokens · ${state.tally.cost_usd:.4f} · {session.model}",
        f"_as of {now:%Y-%m-%d %H:%M:%S} UTC_",
    ]
    if said:
        lines += ["", "> " + " ".join(said.split())]
    for call in waiting.values():
        lines += [
            "",
            f"### Waits for a decision: {call.tool}",
            _fenced(call.preview),
            f"Expires {call.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
        ]
        if session.allow_signals:
            lines += [
                f"To decide here, send the signal `{DECIDE}` with one of these inputs:",
                _fenced(_signal(call, "approve")),
                _fenced(_signal(call, "deny")),
            ]
        else:
            lines.append("Decide through the API: signals are switched off.")
    return "\n".join(lines)
