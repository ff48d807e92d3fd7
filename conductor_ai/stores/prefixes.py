"""What a process remembers of conversations, so that a step of a long session reads only what is new."""

from collections import OrderedDict

from conductor_ai.stores.transcript import Prefix

MOST_CHARACTERS = 64_000_000
"""Of all remembered turns together; the session that was used longest ago is forgotten first."""


class Prefixes:
    """Prefixes by session and run. A reset makes a new run, so what it took back is never found here."""

    def __init__(self, most_characters: int = MOST_CHARACTERS) -> None:
        self._most = most_characters
        self._known: OrderedDict[str, tuple[str, Prefix]] = OrderedDict()
        self._characters = 0

    def get(self, session_id: str, run_id: str) -> Prefix | None:
        """What is remembered for this run."""
        found = self._known.get(session_id)
        if found is None or found[0] != run_id:
            return None
        self._known.move_to_end(session_id)
        return found[1]

    def reaches(self, session_id: str, before: int) -> bool:
        """Whether anything is remembered, for whichever run, that may help with this model call."""
        found = self._known.get(session_id)
        return found is not None and found[1].before <= before

    def put(self, session_id: str, run_id: str, prefix: Prefix) -> None:
        """Remember this, in place of what was known of the session."""
        self.forget(session_id)
        self._known[session_id] = (run_id, prefix)
        self._characters += prefix.characters
        while self._characters > self._most:
            self.forget(next(iter(self._known)))

    def forget(self, session_id: str) -> None:
        """Forget a session, for example because its last answer is given."""
        found = self._known.pop(session_id, None)
        if found is not None:
            self._characters -= found[1].characters
