"""What comes next in a session. Pure: given the state and what an activity returned, the next move."""

from dataclasses import dataclass

from conductor_ai.contracts.models import Stop
from conductor_ai.contracts.session import CallRef, Carried, FellBack, ModelFailed, ModelOutcome, SessionInput
from conductor_ai.contracts.status import StopReason
from conductor_ai.errors import Code

REPAIRS_MAX = 1
"""How often in a row a reply is asked for again before the session fails."""
FALLS_BACK = frozenset({Code.MODEL_UNAVAILABLE, Code.UNKNOWN_MODEL, Code.MODEL_RETIRED})
"""Failures after which another model may do: not a wrong key, nor a request that is refused as it is."""
SHRINKS_MAX = 4
"""How often the text to summarise is halved before the session fails."""
UNKNOWN_TO_PROVIDER = "unknown_model"
"""The reason of a failure where a provider does not serve the model, or does not any more."""
PAUSES_MAX = 8
"""How often in a row a provider may pause one turn."""


@dataclass(frozen=True)
class AskModel:
    """Call the model."""

    call_no: int
    step: int
    fell_back: FellBack | None = None
    """The model that was given up just now."""
    compact: int | None = None
    """Set: have it summarise the conversation, its text halved so many times."""


@dataclass(frozen=True)
class RunCalls:
    """Run these calls, all at once, each in its own time."""

    calls: tuple[CallRef, ...]


@dataclass(frozen=True)
class End:
    """The loop is over."""

    stop_reason: StopReason
    error_code: str | None = None
    error_message: str | None = None
    retryable: bool = False
    answered: int | None = None
    """Set: the call with whose answer it ends instead, if the model has answered nothing since."""

    def goes_on(self, *, chat: bool) -> bool:
        """True if a message from a person leads on from here. Only in a chat do they bring steps of their own."""
        if self.stop_reason is StopReason.MAX_STEPS:
            return chat
        return self.stop_reason in (StopReason.FINAL_ANSWER, StopReason.REFUSAL)


def reads_on(state: Carried, session: SessionInput, end: End) -> bool:
    """Whether a message that nobody has read leads on from this end. A run must have a step left to read it with."""
    chat = session.mode == "chat"
    return end.goes_on(chat=chat) and (chat or state.steps < session.max_steps)


def before_model(state: Carried, session: SessionInput) -> AskModel | End:
    """Ask the model for the next step, or first for a summary if its window is full; unless the steps are used up."""
    if state.steps - state.turn_began >= session.max_steps:
        return End(
            StopReason.MAX_STEPS,
            Code.MAX_STEPS,
            f"The session used all of its {session.max_steps} steps without a final answer. Start it again with a "
            "higher max_steps, or with a smaller task.",
        )
    full = session.compact_at is not None and state.context_share >= session.compact_at
    return AskModel(state.next_call_no, state.steps + 1, compact=0 if full and _may_compact(state, session) else None)


def _may_compact(state: Carried, session: SessionInput) -> bool:
    """Once before a step, and only if there is more than what the caller gave: that is theirs to shorten."""
    return session.compact_at is not None and not state.compacted and state.steps > 0


def after_answer(
    state: Carried, session: SessionInput, outcome: ModelOutcome
) -> tuple[Carried, AskModel | RunCalls | End]:
    """What a reply leads to, be it an answer or a summary."""
    if outcome.summarised is None:
        if outcome.stop is Stop.CONTEXT_EXCEEDED and _may_compact(state, session):
            state = state.model_copy(update={"tally": state.tally + outcome.tally})
            return state, AskModel(state.next_call_no, state.steps + 1, compact=0)
        return after_model(state.model_copy(update={"context_share": outcome.context_share}), outcome)
    state = state.model_copy(update={"tally": state.tally + outcome.tally})
    if outcome.stop is Stop.CONTEXT_EXCEEDED and state.shrinks < SHRINKS_MAX:
        return _shrunk(state)
    # Also without a summary the session goes on: if it does not fit the window, the next call says so and that is final.
    state = state.model_copy(update={"compacted": True, "context_share": 0.0, "shrinks": 0})
    return state, AskModel(state.next_call_no, state.steps + 1)


def _shrunk(state: Carried) -> tuple[Carried, AskModel]:
    state = state.model_copy(update={"shrinks": state.shrinks + 1})
    return state, AskModel(state.next_call_no, state.steps + 1, compact=state.shrinks)


def model_of(session: SessionInput, state: Carried) -> str:
    """The model that the session goes on with."""
    models = (session.model, *session.fallback_models)
    return models[min(state.model_index, len(models) - 1)]


def after_failure(
    state: Carried, session: SessionInput, ask: AskModel, failed: ModelFailed
) -> tuple[Carried, AskModel | None]:
    """What a model call that failed for good leads to; None if the failure stands.

    A conversation that does not fit is summarised. A model that cannot be had is followed by the next one, for the same step.

    The next model is for the rest of the session: one that was overloaded through all attempts of a step would hold up
    every further step as long.
    """
    state = state.model_copy(update={"tally": state.tally + failed.tally})
    if failed.code == Code.CONTEXT_EXCEEDED:
        if ask.compact is None:
            fits_not = _may_compact(state, session)
            return state, AskModel(state.next_call_no, ask.step, compact=0) if fits_not else None
        return _shrunk(state) if state.shrinks < SHRINKS_MAX else (state, None)
    cannot_be_had = failed.code in FALLS_BACK or failed.reason == UNKNOWN_TO_PROVIDER
    if not cannot_be_had or state.model_index >= len(session.fallback_models):
        return state, None
    given_up = FellBack(model=model_of(session, state), reason=failed.reason or "unavailable")
    state = state.model_copy(update={"model_index": state.model_index + 1})
    return state, AskModel(state.next_call_no, ask.step, given_up, ask.compact)


def scheduled(state: Carried, ask: AskModel) -> Carried:
    """The state once a model call is scheduled: its number is used up, whatever comes of it."""
    return state.model_copy(update={"next_call_no": ask.call_no + 1})


def after_model(state: Carried, outcome: ModelOutcome) -> tuple[Carried, AskModel | RunCalls | End]:
    """What a reply leads to. `AskModel` here means: once more, for the same step."""
    state = state.model_copy(update={"tally": state.tally + outcome.tally})
    again = AskModel(state.next_call_no, state.steps + 1)
    match outcome.stop:
        case Stop.END | Stop.TOOL_CALLS if outcome.calls:
            return _step(state), RunCalls(outcome.calls)
        case Stop.END | Stop.TOOL_CALLS:
            return _step(state), End(StopReason.FINAL_ANSWER)
        case Stop.MAX_TOKENS if not outcome.calls and not outcome.cut_calls:
            return _step(state), End(StopReason.FINAL_ANSWER)
        case Stop.MAX_TOKENS if state.repairs < REPAIRS_MAX:
            return _repair(state), again
        case Stop.MAX_TOKENS:
            return state, End(
                StopReason.ERROR,
                Code.MODEL_OUTPUT_LIMIT,
                "The model's reply was cut at its output limit in the middle of a tool call, twice in a row. Nothing of "
                "it was run. Ask for smaller pieces of work, or choose a model with a larger output limit.",
            )
        case Stop.MALFORMED if state.repairs < REPAIRS_MAX:
            return _repair(state), again
        case Stop.MALFORMED:
            return state, End(
                StopReason.ERROR,
                Code.MODEL_MALFORMED,
                "The model twice replied with something that could not be read. Choose a model with native tool use.",
            )
        case Stop.INVALID_OUTPUT if state.output_repairs < REPAIRS_MAX:
            return _repair(state).model_copy(update={"output_repairs": state.output_repairs + 1}), again
        case Stop.INVALID_OUTPUT:
            return state, End(
                StopReason.ERROR,
                Code.OUTPUT_INVALID,
                "The model's answer twice did not fit the session's output_schema; the events output.rejected say why. "
                "Describe the fields in the schema, make it simpler, or choose a model that can be held to a schema.",
            )
        case Stop.PAUSE if state.repairs < PAUSES_MAX:
            return _repair(state), again
        case Stop.PAUSE:
            return state, End(
                StopReason.ERROR,
                Code.MODEL_UNAVAILABLE,
                f"The provider paused the same turn {PAUSES_MAX} times without finishing it.",
                retryable=True,
            )
        case Stop.REFUSAL:
            detail = f" ({outcome.stop_detail})" if outcome.stop_detail else ""
            return _step(state), End(
                StopReason.REFUSAL,
                Code.MODEL_REFUSAL,
                f"The model refused to go on{detail}. Rephrase the task, or choose another model.",
            )
        case Stop.CONTEXT_EXCEEDED:
            return state, End(
                StopReason.ERROR,
                Code.CONTEXT_EXCEEDED,
                "The conversation no longer fits the model's context window. Start a new session with what matters, or "
                "choose a model with a larger window.",
            )


def must_continue_as_new(state: Carried, session: SessionInput, *, steps_before: int, suggested: bool) -> bool:
    """Whether this run's history has grown enough. Asked only at a step's end, with nothing pending."""
    return suggested or state.steps - steps_before >= session.continue_as_new_steps


def _step(state: Carried) -> Carried:
    return state.model_copy(update={"steps": state.steps + 1, "repairs": 0, "output_repairs": 0, "compacted": False})


def _repair(state: Carried) -> Carried:
    return state.model_copy(update={"repairs": state.repairs + 1})
