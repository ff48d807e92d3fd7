"""`docs/reference/events.md`: the types and members are read from the code that writes them, the meaning is here."""

from infra.docs.markdown import page, table
from infra.docs.source import written_events

MEANINGS: dict[str, str] = {
    "session.created": "The API accepted the session. Always number 1.",
    "session.started": "The workflow's first write: its run holds the session now.",
    "session.claimed": "Another run took over (continue-as-new, or a reset in Temporal); what it will do again is superseded.",
    "session.cancel_requested": "From here on the session can only end as cancelled.",
    "session.ended": "The end. Always the last but for calls whose outcome becomes known later, and usage that arrives late.",
    "model.attempt": "One attempt at a model call was billed, or may have been; also written by a run that may write nothing else.",
    "model.answered": "An answer was stored, with the calls that it made. `reused`: it was left behind by a reset and not paid again.",
    "output.rejected": "An answer did not fit the session's `output_schema`; `problems` is what the model was told.",
    "model.retrying": "An attempt failed; the next one comes at `next_at`.",
    "model.fallback": "A model could not be had, `reason` says why; from this call on `to_model` answers.",
    "context.compacted": "The conversation was summarised; from here on the summary stands for so many `turns`, which are kept.",
    "approval.requested": "A call waits for a person.",
    "approval.extended": "A new run asks the same call again: it has until a later time.",
    "approval.decided": "A person decided. `verified` is false if only access to Temporal shows who it was.",
    "grant.created": "A person approved a call and, with it, the ones to come that are like it.",
    "grant.used": "A grant approved a call in the place of a person.",
    "message.received": "Somebody wrote to the session; nobody has read it yet.",
    "message.read": "Messages became part of the conversation from this model call on.",
    "message.not_read": "The session ended before the model had answered these messages.",
    "message.refused": "The session could not take the message; it was taken back.",
    "session.paused": "It stands still between two steps; `kind` says why.",
    "session.resumed": "It goes on, with these limits.",
    "session.limits_changed": "Somebody changed what it may spend.",
    "session.input_awaited": "A chat has answered and waits for the next message.",
    "tool.asked_again": "The call was not run: people are asked once more, about edited arguments or another effect.",
    "tool.started": "A worker claimed the call: from here on it may have its effect.",
    "tool.finished": "The call has its result; `state` is its end state.",
    "tool.retrying": "The tool's infrastructure did not answer and the call had no effect; the next attempt comes at `next_at`.",
    "tool.gave_up": "The same, after the last attempt.",
}


def render() -> str:
    """The page."""
    members: dict[str, list[str]] = {}
    for event in written_events():
        known = members.setdefault(event.type, [])
        known += [name for name in event.fields if name not in known]
    ordered = [kind for kind in MEANINGS if kind in members] + sorted(set(members) - set(MEANINGS))
    rows = [
        (f"`{kind}`", ", ".join(f"`{name}`" for name in members[kind]) or "–", MEANINGS.get(kind, ""))
        for kind in ordered
    ]
    return page(
        "Events",
        "Every change of a session appends at least one row to `conductor.events`, under the session's lock and in the same "
        "transaction. `seq` has no gaps; the highest is the session's `version`, which is also the ETag of "
        "`GET /v1/agents/{session_id}`. A write that changes nothing appends nothing.",
        table(("type", "members of `body`", "meaning"), rows),
        "## Reading them\n\n"
        "[`GET /v1/agents/{session_id}/events`](routes.md#get-v1agentssession_idevents) lists them, "
        "[`GET /v1/agents/{session_id}/stream`](routes.md#get-v1agentssession_idstream) sends them as they happen; there `body` is "
        "called `data`. Programs must ignore types and members that they do not know. In the database:",
        "```sql\nSELECT seq, at, type, body FROM conductor.events WHERE session_id = 'sess_…' ORDER BY seq;\n```",
    )
