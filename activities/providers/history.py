"""A conversation in the shape that model APIs insist on: every call is followed by exactly one result.

Ours need not have that shape: a call may have been abandoned, a person may have spoken before its result arrived, and
ids that another provider made may repeat.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from conductor_ai.contracts.models import AssistantTurn, ProposedCall, ResultTurn, Turn

_VALID_ID = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")

NO_RESULT = "There is no result: this call was not carried through."
NOTHING_SAID = "(nothing was said)"
"""Stands where an API refuses an empty text."""


@dataclass(frozen=True)
class SentCall:
    """A call under the id that the API is sent, with its result; None if there never was one."""

    id: str
    call: ProposedCall
    result: ResultTurn | None

    @property
    def text(self) -> str:
        """What the model is told of it; never empty."""
        return (self.result.text if self.result is not None else NO_RESULT) or "(no output)"

    @property
    def ok(self) -> bool:
        """False also for a call without a result."""
        return self.result is not None and self.result.ok


@dataclass(frozen=True)
class Said:
    """An earlier answer of the model with everything that came of it."""

    turn: AssistantTurn
    calls: tuple[SentCall, ...]


@dataclass(frozen=True)
class Asked:
    """Something that a person said."""

    text: str


def own_native(turns: Iterable[Turn], model: str) -> tuple[Turn, ...]:
    """The turns without the provider's blocks of other models: a signature of one model's thinking means nothing to another."""
    return tuple(
        turn.model_copy(update={"native": (), "native_provider": None})
        if turn.role == "assistant" and turn.native and turn.model != model
        else turn
        for turn in turns
    )


def arrange(turns: Iterable[Turn]) -> tuple[Asked | Said, ...]:
    """Pair calls with results and give every call an id of its own. Results without a call are left out."""
    ids = _Ids()
    arranged: list[Asked | Said] = []
    answer: AssistantTurn | None = None
    results: list[ResultTurn] = []
    between: list[Asked] = []

    def close() -> None:
        if answer is not None:
            arranged.append(Said(answer, _pair(answer, results, ids)))
        arranged.extend(between)

    for turn in turns:
        match turn.role:
            case "assistant":
                close()
                answer, results, between = turn, [], []
            case "tool":
                results.append(turn)
            case "user":
                between.append(Asked(turn.text or NOTHING_SAID))
    close()
    return tuple(arranged)


def _pair(answer: AssistantTurn, results: list[ResultTurn], ids: "_Ids") -> tuple[SentCall, ...]:
    left = list(results)
    paired: list[SentCall] = []
    for call in answer.calls:
        result = next((found for found in left if found.provider_id == call.provider_id), None)
        if result is not None:
            left.remove(result)
        paired.append(SentCall(ids.take(call.provider_id), call, result))
    return tuple(paired)


class _Ids:
    """Keeps a provider's id where it is valid and new, and makes one up where it is not."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def take(self, wanted: str) -> str:
        """An id that was not given out before."""
        id_, number = wanted, len(self._seen)
        while not _VALID_ID.match(id_) or id_ in self._seen:
            number += 1
            id_ = f"call_{number}"
        self._seen.add(id_)
        return id_
