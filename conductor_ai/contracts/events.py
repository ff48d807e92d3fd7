"""What happened in a session, as the API tells it: durable events, and pieces of replies that are under way."""

from conductor_ai.contracts.base import Contract, JsonObject, UtcTime


class EventView(Contract):
    """One change of a session. It is never changed or taken back, and its place in the order is its own."""

    id: str
    """Stable and unique among all sessions: `evt_…`."""
    session_id: str
    seq: int
    """1, 2, 3 … without gaps. The same number is the `id` in the stream, and the session's version after this event."""
    type: str
    """A word of the [list of events](events.md). Ignore those that you do not know: there will be more."""
    at: UtcTime
    data: JsonObject
    """The members that the list of events names for this type."""


class DeltaView(Contract):
    """A piece of an answer that the model is still writing: a preview, which may be lost or be followed by a retry."""

    session_id: str
    call_no: int
    """Which model call of the session."""
    attempt: int
    """Which attempt at that call. A piece of a later call or attempt replaces all text of the earlier one."""
    offset: int
    """Characters of this attempt that come before this piece: keep that many of what you have, then append `text`."""
    text: str
