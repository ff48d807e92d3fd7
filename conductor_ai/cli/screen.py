"""Shows a session on a terminal as it happens. Lines are never broken by force, so that they can be copied."""

from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from conductor_ai.cli import wording
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.deciding import Answer
from conductor_ai.cli.follow import Decided, Ending, Notice, Shown
from conductor_ai.cli.listening import Words
from conductor_ai.cli.progress import Asked, Begun, CallSettled, Degraded, Retrying, StepDone, StepTaken
from conductor_ai.contracts.views import ApprovalView, SessionView, StepView
from conductor_ai.visible import visible

_WRITES = "  … "
_ERASE_LINE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
_RISKS = {"low": "green", "medium": "yellow", "high": "bold red"}


def console(*, stderr: bool = False) -> Console:
    """A terminal as all commands use it: text from outside is never markup, and nothing is coloured by guessing."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


class Screen:
    """The output of `conductor run` for people."""

    def __init__(
        self,
        out: Console,
        *,
        link: Callable[[str], str | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._out = out
        self._link = link
        self._now = now
        self._held: StepView | None = None
        """A step without calls: it is shown as the answer if the session ends with it, else as what it is."""
        self._writing = False
        """Whether the last line shows words that the model is writing. It is not kept: the whole answer follows."""

    def show(self, event: Shown) -> None:
        if self._writing:
            self._out.control(_ERASE_LINE)
            self._writing = False
        match event:
            case Words(text):
                self._words(text)
            case Begun(session):
                self._begun(session)
            case StepTaken(step):
                self._release()
                if step.actions:
                    self._step(step)
                else:
                    self._held = step
            case CallSettled(number, action):
                sign, colour = wording.STATES[action.status]
                head = f"  {sign} {visible(action.tool_name)} {action.status.value} (step {number})"
                self._line(head, colour)
                for line in wording.excerpt(action.observation or ""):
                    self._line(f"      {line}", "dim")
            case StepDone():
                pass  # Told call by call.
            case Asked(approval):
                # The thought has just been shown with its step.
                show_approval(self._out, approval.model_copy(update={"thought": None}), self._now())
            case Decided():
                self._decided(event)
            case Retrying(retry):
                self._line(
                    f"  ↻ Attempt {retry.attempt} of the {retry.what} call failed ({visible(retry.reason)}); the next is at "
                    f"{wording.moment(retry.next_at)}.",
                    "yellow",
                )
            case Degraded():
                self._line("  ! The server's database is away; what is shown may be old.", "yellow")
            case Notice(text):
                self._line(f"  {visible(text)}", "yellow")
            case Ending(code, session):
                self._ending(code, session)

    def _begun(self, session: SessionView) -> None:
        self._line(f"Session {session.session_id}", "bold")
        tools = ", ".join(session.tools) or "none"
        self._line(
            f"  model {visible(session.model)} · tools {visible(tools)} · at most {session.max_steps} steps", "dim"
        )
        if (link := self._link(session.session_id)) is not None:
            self._line(f"  Temporal: {link}", "dim")
        for warning in session.warnings:
            self._line(f"  ! {visible(warning)}", "yellow")

    def _words(self, text: str) -> None:
        if not text or not self._out.is_terminal or self._out.is_dumb_terminal:
            return
        end = wording.end_of_line(text, max(1, self._out.width - len(_WRITES) - 1))
        self._out.print(Text(_WRITES + end, style="dim"), end="", no_wrap=True, overflow="crop")
        self._out.file.flush()
        self._writing = True

    def _release(self) -> None:
        if self._held is not None:
            self._step(self._held)
            self._held = None

    def _step(self, step: StepView) -> None:
        self._line("")
        self._line(f"Step {step.step_number}", "bold")
        if step.thought:
            for line in visible(step.thought).split("\n"):
                self._line(f"  {line}")
        for action in step.actions:
            self._line(f"  → {visible(action.tool_name)} {wording.on_one_line(action.arguments)}", "cyan")

    def _decided(self, event: Decided) -> None:
        word = "Approved" if event.choice.answer is Answer.APPROVE else "Denied"
        why = f" ({event.choice.because})" if event.choice.because else ""
        way = "" if event.taken else " The decision is on its way: no worker has taken it yet."
        self._line(f"  {word}{why}.{way}", "green" if event.choice.answer is Answer.APPROVE else "yellow")

    def _ending(self, code: ExitCode, session: SessionView) -> None:
        if session.final_answer is None:
            self._release()
        self._line("")
        if session.final_answer is not None:
            self._line("Answer" if self._held is None else f"Step {self._held.step_number}: the answer", "bold")
            for line in visible(session.final_answer).split("\n"):
                self._line(f"  {line}")
            self._line("")
        show_end(self._out, code, session, self._link(session.session_id))

    def _line(self, text: str, style: str = "") -> None:
        self._out.print(Text(text, style=style), soft_wrap=True)


def show_approval(out: Console, approval: ApprovalView, now: datetime) -> None:
    """All that a person should know before deciding: nothing of the call is shortened."""

    def line(text: str, style: str = "") -> None:
        out.print(Text(text, style=style), soft_wrap=True)

    line("")
    line(f"  A person has to decide: {visible(approval.tool)}, risk {approval.risk}", _RISKS[approval.risk])
    line(f"  {visible(approval.summary)}")
    for text in wording.arguments_in_full(approval.arguments):
        line(f"    {text}", "cyan")
    for column in approval.evidence:
        label, *rest = visible(column.value).split("\n")
        line(f"    {visible(column.label)}: {label}")
        for more in rest:
            line(f"        {more}")
    if approval.thought:
        line(f"  The model's thought: {wording.on_one_line(approval.thought, 400)}", "dim")
    line(f'  Asked by the rule "{visible(approval.rule)}"; {wording.until(approval.expires_at, now)}.', "dim")
    line(f"  {approval.id}, arguments {approval.arguments_sha256[:12]}…", "dim")


def show_end(out: Console, code: ExitCode, session: SessionView, link: str | None) -> None:
    """The last lines: state, steps, tokens, cost, link."""

    def line(text: str, style: str = "") -> None:
        out.print(Text(text, style=style), soft_wrap=True)

    colour = {ExitCode.COMPLETED: "bold green", ExitCode.FAILED: "bold red"}.get(code, "bold yellow")
    reason = f" ({session.stop_reason.value})" if session.stop_reason is not None else ""
    line(f"{session.status.value.capitalize()}{reason}", colour)
    if session.error is not None:
        again = " The same may work later." if session.error.retryable else ""
        line(f"  {session.error.code}: {visible(session.error.message)}{again}", "red")
    if not session.status.ended and session.waiting_for:
        line(f"  {visible(session.waiting_for)}")
    line(
        f"  {wording.steps(session.step_count)} · tokens {wording.tokens(session.input_tokens, session.output_tokens)} · "
        f"{wording.money(session.total_cost_usd)}"
    )
    line(f"  Session {session.session_id}")
    if link is not None:
        line(f"  Temporal: {link}")
