"""What passes between the session workflow and its activities. All of it is small: content stays in Postgres."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from conductor_ai.contracts.base import Payload, UtcTime
from conductor_ai.contracts.control import Limits, Pause
from conductor_ai.contracts.decisions import Decision
from conductor_ai.contracts.models import Stop
from conductor_ai.contracts.policy import Effect, OnExpiry, Ruling
from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.contracts.tools import Facts, Queue


class Tally(Payload):
    """Tokens and money spent so far."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=self.cost_usd + other.cost_usd,
        )


class Carried(Payload):
    """All state of a session that outlives one run of its workflow."""

    clock: int = 0
    """Counts the changes that the workflow recorded; a late one has a lower number and loses."""
    next_call_no: int = 1
    """Counts every model activity that was ever scheduled; never reused."""
    steps: int = 0
    repairs: int = 0
    """Model replies in a row that had to be asked for again."""
    output_repairs: int = 0
    """Of these, answers that did not fit the session's `output_schema`."""
    context_share: float = 0
    """How much of its model's window the last answer took as input, 0 to 1."""
    compacted: bool = False
    """The conversation was summarised, or could not be, and no step was made since."""
    shrinks: int = 0
    """How often the text to summarise has been halved because it did not fit the window itself."""
    model_index: int = 0
    """How many models were given up: the session goes on with this one of `model` and `fallback_models`."""
    tally: Tally = Tally()
    decisions: tuple[Decision, ...] = ()
    """Accepted decisions, so that a repeated one is known as such."""
    early: tuple[Decision, ...] = ()
    """Decisions for calls that have not appeared yet (a reset replays signals before the call)."""
    denials: dict[str, int] = Field(default_factory=dict)
    """How often a call with this digest was denied: the same one again is denied at once."""
    limits: Limits | None = None
    """As they were changed since the start; None: those of the start."""
    pause: Pause | None = None
    inbox: tuple[str, ...] = ()
    """Messages that no answered model call has read yet."""
    seen: tuple[str, ...] = ()
    """Messages that came, so that a repeated one is known as such."""
    interrupted: bool = False
    idle: bool = False
    """A chat that waits for the next message."""
    turn_began: int = 0
    """Steps there were when the last message of a chat was read: each turn has `max_steps` of its own."""


class SessionInput(Payload):
    """The input of the session workflow."""

    session_id: str
    """Also the workflow id."""
    org_id: str
    model: str
    fallback_models: tuple[str, ...] = ()
    """Models to go on with, in this order, when one cannot be had."""
    tools: tuple[str, ...]
    max_steps: int
    deadline_at: UtcTime | None = None
    approval_ttl_seconds: int = 86_400
    on_expiry: OnExpiry = OnExpiry.EXPIRE
    limits: Limits = Limits()
    mode: Literal["run", "chat"] = "run"
    idle_timeout_seconds: int = 86_400
    """A chat that nobody writes to for so long completes."""
    ask_every_call: bool = False
    """The starter wants to be asked about every call, whatever the policy allows."""
    continue_as_new_steps: int = 100
    model_max_attempts: int = 6
    compact_at: float | None = None
    """The share of the model's window at which the conversation is summarised; None: never."""
    allow_signals: bool = True
    title: str = ""
    carried: Carried = Carried()


class SessionResult(Payload):
    """What the workflow returns. The content is in the store."""

    session_id: str
    status: Status
    stop_reason: StopReason
    steps: int
    cost_usd: Decimal


class Fence(Payload):
    """Names the place of a writer in its session. The run's id comes from Temporal, never from an argument."""

    session_id: str
    next_call_no: int
    """The first model call that this run has not scheduled yet (for a model call: its own number)."""


class FellBack(Payload):
    """A model that was given up."""

    model: str
    reason: str
    """A word of the closed set of provider errors, for example `overloaded`."""


class ModelFailed(Payload):
    """Why a model call failed for good: the details of the activity's failure."""

    code: str | None = None
    reason: str = ""
    """A word of the closed set of provider errors; empty if it was none of them."""
    tally: Tally = Tally()
    """What all its attempts used."""


class ModelInput(Payload):
    """Input of the activity `call_model`."""

    fence: Fence
    call_no: int
    step: int
    model: str
    max_attempts: int
    fell_back: FellBack | None = None
    """The model that was given up just now, if this call goes to another in its place."""
    run_calls: bool = False
    """True if the activity may run calls of the answer itself: those that are allowed, short, and only read."""
    messages: tuple[str, ...] = ()
    """What people wrote since the last answer: part of the conversation from this call on."""
    only_messages: bool = False
    """True if there is nothing to answer but these messages: without any of them no model is asked."""
    compact: int | None = None
    """Set: summarise the conversation, its text halved so many times."""
    may_end: bool = False
    """True if a final answer ends the session. A message that nobody has read, or an accepted cancel, still keeps it from that."""


class CallRef(Payload):
    """One tool call, by reference: enough for the policy and for a person to recognise it."""

    call_id: str
    tool: str
    arguments_sha256: str = ""
    error: str | None = None
    """Set if the call can never run (unknown tool, bad arguments); its observation is stored already."""
    facts: Facts = Facts()
    queue: Queue = Queue.MAIN
    timeout_seconds: float = 30
    preview: str = ""
    """The arguments as a person may read them, at most 2 KB."""
    state: CallState | None = None
    """Set if the call has its result already: the activity that asked the model has run it too."""
    ruling: Ruling = Ruling(effect=Effect.ASK, rule="none: no policy has seen this call")
    """What the policy says. Evaluated where the arguments are; kept here, so that a replay sees the same."""
    round: int = 1
    """Which time this call is asked."""


class FinishOutcome(Payload):
    """Output of `finish`: the end as it is stored, whoever wrote it, or what keeps the session from ending."""

    status: Status
    stop_reason: StopReason
    steps: int = 0
    cost_usd: Decimal = Decimal(0)
    error_code: str | None = None
    error_message: str | None = None
    unread: str | None = None
    """Set: nothing has ended, because nobody has read this message. It is the newest; whoever reads it reads older ones, too."""


class ModelOutcome(Payload):
    """Output of `call_model`: what is stored, by reference."""

    stop: Stop
    calls: tuple[CallRef, ...] = ()
    cut_calls: bool = False
    """True if the reply was cut in the middle of a tool call: none of its calls is stored or run."""
    said: str = ""
    """The beginning of the text, at most 200 characters, for Temporal's UI."""
    tally: Tally = Tally()
    stop_detail: str | None = None
    context_share: float = 0
    """Input tokens of this call by the model's context window; 0 if that is not known."""
    summarised: bool | None = None
    """For a call that was to summarise: whether there is a summary now."""
    asked: bool = True
    """False if nothing was there to answer: the messages had been taken back, or answered before."""
    gone: tuple[str, ...] = ()
    """Messages that had been taken back."""
    ended: FinishOutcome | None = None
    """Set: the session is completed, usually with this answer. It is what `finish` would return."""


class PrepareInput(Payload):
    """Input of `prepare_call`: gate the call now, look up its consequence, show it to the people who decide."""

    fence: Fence
    call_id: str
    arguments_sha256: str
    round: int = 1
    expires_at: UtcTime
    on_expiry: OnExpiry = OnExpiry.EXPIRE
    rule: str
    """The policy rule that asked."""


class Prepared(Payload):
    """Output of `prepare_call`."""

    state: Literal["pending", "decided", "settled", "moved"]
    """`decided`: a decision is stored already (this is a repeat). `settled`: the call has a result (say, refused). `moved`: a
    run that was reset has had the call changed since; nobody was asked."""
    approval_id: str | None = None
    summary: str = ""
    """What will happen, at most 2 KB, for Temporal's UI."""
    decision: Decision | None = None
    call_state: CallState | None = None
    call: CallRef | None = None
    """With `moved`: the call as it is now."""


class ToolInput(Payload):
    """Input of `run_tool`."""

    fence: Fence
    call_id: str
    tool: str
    arguments_sha256: str
    round: int = 1
    decision: Decision | None = None
    """The approval, for a call that had to be asked."""


class ReviseInput(Payload):
    """Input of `revise_call`: give a call the arguments that a person wrote."""

    fence: Fence
    round: int
    decision: Decision


class ToolOutcome(Payload):
    """Output of `run_tool`: the state of the call. Its result is in the store."""

    call_id: str
    state: CallState
    """`ready`: nothing was run, because people have to be asked (again)."""
    round: int = 1
    """With `ready`: which time it is now asked."""
    call: CallRef | None = None
    """With `ready`: the call as it is now, if it was changed before this activity began."""
    bytes: int = 0


class CallDenied(Payload):
    """A person said no."""

    change: Literal["denied"] = "denied"
    decision: Decision


class CallDeniedAgain(Payload):
    """The same call was denied before: nobody is asked again."""

    change: Literal["denied_again"] = "denied_again"
    call_id: str
    times: int
    """How often it has been proposed now."""


class CallAnswered(Payload):
    """A person gave the result in the tool's place."""

    change: Literal["answered"] = "answered"
    decision: Decision


class CallExpired(Payload):
    """Nobody decided in time."""

    change: Literal["expired"] = "expired"
    call_id: str
    at: UtcTime
    denies: bool = False
    """True if that counts as a denial."""


class CallBlocked(Payload):
    """The policy refuses the call."""

    change: Literal["blocked"] = "blocked"
    call_id: str
    rule: str


class CallFailed(Payload):
    """The infrastructure of the tool stayed away through all attempts."""

    change: Literal["failed"] = "failed"
    call_id: str
    message: str
    decision: Decision | None = None
    """The approval, if there was one: the call may have failed before its claim could write it."""


class CallInterrupted(Payload):
    """Somebody wrote a message instead of deciding."""

    change: Literal["interrupted"] = "interrupted"
    call_id: str


class SessionPaused(Payload):
    """The session stands still between two steps."""

    change: Literal["paused"] = "paused"
    pause: Pause


class SessionResumed(Payload):
    """It goes on."""

    change: Literal["resumed"] = "resumed"
    limits: Limits
    """As they are now."""


class LimitsChanged(Payload):
    """Somebody changed what the session may spend."""

    change: Literal["limits_changed"] = "limits_changed"
    limits: Limits
    """All of them, as they are from then on."""
    by: str


class InputAwaited(Payload):
    """A chat has answered and waits for the next message."""

    change: Literal["input_awaited"] = "input_awaited"
    stop_reason: StopReason


CallChange = CallDenied | CallDeniedAgain | CallAnswered | CallExpired | CallBlocked | CallFailed | CallInterrupted
SessionChange = SessionPaused | SessionResumed | LimitsChanged | InputAwaited
Change = Annotated[
    CallChange | SessionChange,
    Field(discriminator="change"),
]


class RecordInput(Payload):
    """Input of `record`: changes that no model or tool activity writes."""

    fence: Fence
    clock: int
    changes: tuple[Change, ...]


class RecordOutcome(Payload):
    """Output of `record`."""

    applied: bool
    """False if a later change was there already: then nothing was changed."""


class FinishInput(Payload):
    """Input of `finish`. Scalars only, so that the end can always be written."""

    fence: Fence
    stop_reason: StopReason
    error_code: str | None = None
    error_message: str | None = None
    retryable: bool = False
    cancel_seen: bool = False
    """True if Temporal has told the workflow of a cancel."""
    reads_on: bool = False
    """True if a message that nobody has read puts this end off."""
    answered: int | None = None
    """Set: the session would have ended with this call's answer but for a message. It does so, if none was answered since."""
