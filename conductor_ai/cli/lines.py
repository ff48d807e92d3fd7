"""Shows a session as one JSON object a line, for programs. Text is as the server sent it: nothing is made visible or shortened."""

import json
from collections.abc import Callable
from typing import TextIO

from conductor_ai.cli.follow import Decided, Ending, Notice, Shown
from conductor_ai.cli.listening import Words
from conductor_ai.cli.progress import Asked, Begun, CallSettled, Degraded, Retrying, StepDone, StepTaken
from conductor_ai.contracts.base import Contract, JsonObject


def as_line(value: Contract) -> str:
    """A value as one line of ASCII JSON: no line separator inside of it for programs, nothing that steers a terminal."""
    return json.dumps(value.model_dump(mode="json"), ensure_ascii=True)


class JsonLines:
    """The output of `conductor run --json`. The kinds of lines are promises: see docs/reference/cli.md."""

    def __init__(self, out: TextIO, *, link: Callable[[str], str | None]) -> None:
        self._out = out
        self._link = link

    def show(self, event: Shown) -> None:
        body = self._body(event)
        if body is not None:
            # ASCII: a program that reads lines must not find a line separator inside of one.
            self._out.write(json.dumps(body, ensure_ascii=True) + "\n")
            self._out.flush()

    def _body(self, event: Shown) -> JsonObject | None:
        match event:
            case Begun(session):
                return {
                    "event": "session",
                    "session_id": session.session_id,
                    "model": session.model,
                    "tools": list(session.tools),
                    "max_steps": session.max_steps,
                    "temporal_ui_url": self._link(session.session_id),
                    "warnings": list(session.warnings),
                }
            case StepDone(step):
                return {"event": "step", "step": step.model_dump(mode="json")}
            case Asked(approval):
                return {"event": "approval", "approval": approval.model_dump(mode="json")}
            case Decided(approval, choice, taken):
                return {
                    "event": "decision",
                    "approval_id": approval.id,
                    "decision": choice.answer.value,
                    "taken": taken,
                }
            case Retrying(retry):
                return {"event": "retry", "retry": retry.model_dump(mode="json")}
            case Notice(text):
                return {"event": "notice", "text": text}
            case Degraded():
                return {"event": "notice", "text": "The server's database is away; what is shown may be old."}
            case Ending(code, session):
                end = session.model_dump(mode="json", exclude={"steps", "pending_approvals"})
                waiting: JsonObject = {"pending_approvals": [approval.id for approval in session.pending_approvals]}
                return {"event": "end", "exit_code": int(code), **end, **waiting}
            case StepTaken() | CallSettled() | Words():
                return None  # The step comes as a whole when it is done.
