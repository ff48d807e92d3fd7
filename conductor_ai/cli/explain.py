"""`conductor sessions explain`: why does it not move?"""

from rich.text import Text

from conductor_ai.cli import find, wording
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.lines import as_line
from conductor_ai.cli.screen import console
from conductor_ai.cli.server import talking
from conductor_ai.contracts.explain import EngineFacts, Explanation, Finding
from conductor_ai.settings import Settings
from conductor_ai.visible import visible

_WHO = {
    "nothing": "Nothing will happen any more.",
    "time": "Nobody has to do anything.",
    "person": "A person has to act.",
    "operator": "Whoever runs the server has to act.",
}


async def explain_session(settings: Settings, session_id: str, *, as_json: bool) -> ExitCode:
    """Prints the reason, who has to act, and the facts."""
    place = find.running(settings)
    async with talking(place) as client:
        found = await client.sessions.explain(session_id)
    if as_json:
        print(as_line(found))
        return ExitCode.COMPLETED
    out = console()
    for line in lines(found):
        out.print(Text(line), soft_wrap=True)
    return ExitCode.COMPLETED


def lines(found: Explanation) -> list[str]:
    """The explanation as a person reads it."""
    told = [*_finding(found), _WHO[found.waits_for]]
    for other in found.also:
        told += ["", "Also:", *_finding(other)]
    if found.facts.engine is not None and found.facts.engine.reachable:
        told += ["", *_facts(found.facts.engine)]
    if found.facts.stored.degraded:
        told += ["", "The database is away: this is from a copy and may be old."]
    return told


def _finding(found: Finding) -> list[str]:
    return [visible(text) for text in (found.sentence, found.advice) if text]


def _facts(engine: EngineFacts) -> list[str]:
    told = []
    for item in engine.activities:
        parts = [f"{item.activity} {item.state.replace('_', ' ')}, attempt {item.attempt}"]
        for word, at in (
            ("started", item.started_at),
            ("last sign of life", item.heartbeat_at),
            ("next", item.next_attempt_at),
        ):
            if at is not None:
                parts.append(f"{word} {wording.moment(at)}")
        told.append(visible("; ".join(parts)))
    for queue in engine.queues:
        asked = wording.moment(queue.last_poll_at) or "never, or long ago"
        backlog = "" if queue.backlog is None else f"; about {queue.backlog} waiting"
        told.append(visible(f"queue {queue.name} ({queue.kind}): workers {queue.pollers}, last asked {asked}{backlog}"))
    return told
