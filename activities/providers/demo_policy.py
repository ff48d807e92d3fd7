"""What the demo model does next: a pure function of the conversation, without memory, clock or chance.

Its task: read a page, compute on what it found, look into the shop's database, propose a change. It goes on without
a tool that is missing, does not ask again for what people denied, and its answer tells only what came back.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import AssistantTurn, ProposedCall, ResultTurn, Turn

LABEL = "[demo model]"
"""Begins everything that the demo model says: nobody should take it for a language model."""

READ_SQL = (
    "SELECT category, count(*) AS products, min(price_eur) AS cheapest, max(price_eur) AS dearest "
    "FROM products GROUP BY category ORDER BY category"
)
WRITE_SQL = "UPDATE products SET price_eur = round(price_eur * {factor}, 2) WHERE sku = ANY($1)"

_URL = re.compile(r"https?://[^\s<>\"'`]+")
_SKU = re.compile(r"\b[A-Z]{3}-\d{3}\b")
_PERCENT = re.compile(
    r"(\d{1,2}(?:\.\d{1,2})?)\s*(?:percent|%)\s*(more|dearer|higher|less|cheaper|lower)", re.IGNORECASE
)
_MOST_PRODUCTS = 20
_QUOTED = 4_000
"""Characters of a page that are handed to the code: enough to show something, small enough to read in an approval."""

_WORDS: dict[str, str] = {
    "code_run": r"\b(python|code|compute|calculate|analy[sz]e|count|sandbox)",
    "read": r"\b(sql|database|shop|customers?|orders?|products?|prices?|quer(y|ies)|table)\b",
    "write": r"\b(update|change|set|reduce|lower|raise|increase|discount|write)\b.*\b(prices?|products?)\b",
}


class Outcome(StrEnum):
    """How a call ended, as far as its text tells."""

    OK = "ok"
    DENIED = "denied"
    EXPIRED = "expired"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


_SIGNS: tuple[tuple[Outcome, str], ...] = (
    (Outcome.DENIED, r"\b(denied|denies|rejected|declined|not approved|does not allow)\b"),
    (Outcome.EXPIRED, r"\bexpired\b|\bnobody decided\b"),
    (Outcome.UNAVAILABLE, r"\b(unavailable|not available|not installed|not configured|is off|switched off)\b"),
)


@dataclass(frozen=True)
class Move:
    """The next answer: a thought with one call, or the final text."""

    text: str
    call: ProposedCall | None = None


@dataclass(frozen=True)
class _Scene:
    """The conversation since the last message of a person."""

    task: str
    tools: frozenset[str]
    asked: frozenset[str]
    """Steps that have been called already."""
    results: dict[str, ResultTurn]

    def outcome(self, step: str) -> Outcome | None:
        result = self.results.get(step)
        return None if result is None else read_outcome(result)


@dataclass(frozen=True)
class _Step:
    name: str
    tool: str
    thought: Callable[[_Scene], str]
    arguments: Callable[[_Scene], JsonObject]
    wanted: Callable[[_Scene], bool]


def next_move(turns: tuple[Turn, ...], tools: frozenset[str]) -> Move:
    """Decide about the next answer."""
    scene = _scene(turns, tools)
    for step in _STEPS:
        if step.name not in scene.asked and step.tool in tools and step.wanted(scene):
            call = ProposedCall(provider_id=f"demo_{step.name}", tool=step.tool, arguments=step.arguments(scene))
            return Move(f"{LABEL} {step.thought(scene)}", call)
    return Move(_summary(scene))


def read_outcome(result: ResultTurn) -> Outcome:
    """Tell a denial from a failure: both are results that are not ok."""
    if result.ok:
        return Outcome.OK
    for outcome, signs in _SIGNS:
        if re.search(signs, result.text, re.IGNORECASE):
            return outcome
    return Outcome.FAILED


def since_last_user(turns: tuple[Turn, ...]) -> tuple[str, tuple[Turn, ...]]:
    """The last message of a person, and everything after it."""
    for at in range(len(turns) - 1, -1, -1):
        turn = turns[at]
        if turn.role == "user":
            return turn.text, turns[at + 1 :]
    return "", turns


def _scene(turns: tuple[Turn, ...], tools: frozenset[str]) -> _Scene:
    task, after = since_last_user(turns)
    asked = {call.provider_id for turn in after if isinstance(turn, AssistantTurn) for call in turn.calls}
    results = {turn.provider_id: turn for turn in after if isinstance(turn, ResultTurn)}
    return _Scene(
        task=task,
        tools=tools,
        asked=frozenset(name.removeprefix("demo_") for name in asked),
        results={name.removeprefix("demo_"): turn for name, turn in results.items()},
    )


def _url(scene: _Scene) -> str | None:
    found = _URL.search(scene.task)
    return found.group(0).rstrip(".,;:!?)]}") if found else None


def _asks_for(scene: _Scene, what: str) -> bool:
    """A task with an address is the demo task and gets everything; any other gets what it names."""
    return _url(scene) is not None or re.search(_WORDS[what], scene.task, re.IGNORECASE | re.DOTALL) is not None


def _code(scene: _Scene) -> JsonObject:
    page = scene.results.get("fetch")
    text = page.text if page is not None and page.ok else scene.task
    program = (
        "import collections, json, re\n"
        f"text = {text[:_QUOTED]!a}\n"
        "words = re.findall(r'[A-Za-z]{4,}', text.lower())\n"
        "numbers = [float(n) for n in re.findall(r'\\d+(?:\\.\\d+)?', text)]\n"
        "print(json.dumps({'characters': len(text), 'words': len(words), 'numbers': len(numbers),\n"
        "                  'largest': max(numbers, default=None),\n"
        "                  'frequent': collections.Counter(words).most_common(3)}))\n"
    )
    return {"language": "python", "code": program}


def _code_thought(scene: _Scene) -> str:
    match scene.outcome("fetch"):
        case Outcome.OK:
            return "I have the page. I count its words and numbers with Python, in the sandbox."
        case None:
            return "I count the words and numbers of the task with Python, in the sandbox."
        case _:
            return "The page could not be read, so I count the words of the task itself with Python, in the sandbox."


@dataclass(frozen=True)
class _Change:
    """Which products get which price, and who says so."""

    skus: tuple[str, ...]
    percent: Decimal
    """Negative if they become cheaper."""
    why: str

    @property
    def factor(self) -> Decimal:
        return 1 + self.percent / 100


UNASKED = _Change(("COF-004",), Decimal(-5), "No page told me what to change, so I take a small example")
"""What is proposed to show what a person is asked, where no page names products and a percentage."""


def _change(scene: _Scene) -> _Change:
    page = scene.results.get("fetch")
    text = page.text if page is not None and page.ok else ""
    skus, percent = tuple(dict.fromkeys(_SKU.findall(text)))[:_MOST_PRODUCTS], _PERCENT.search(text)
    if not skus or percent is None:
        return UNASKED
    sign = -1 if percent.group(2).lower() in ("less", "cheaper", "lower") else 1
    return _Change(skus, sign * Decimal(percent.group(1)), "The page says so")


def _write_thought(scene: _Scene) -> str:
    change = _change(scene)
    direction = "dearer" if change.percent > 0 else "cheaper"
    count = "one product becomes" if len(change.skus) == 1 else f"{len(change.skus)} products become"
    return f"I propose a change: {count} {abs(change.percent)} % {direction}. {change.why}."


def _write(scene: _Scene) -> JsonObject:
    change = _change(scene)
    return {"query": WRITE_SQL.format(factor=change.factor), "params": [list(change.skus)]}


_STEPS: tuple[_Step, ...] = (
    _Step(
        "fetch",
        "web_fetch",
        lambda scene: f"I read the page {_url(scene)} first.",
        lambda scene: {"url": _url(scene)},
        lambda scene: _url(scene) is not None,
    ),
    _Step("code", "code_run", _code_thought, _code, lambda scene: _asks_for(scene, "code_run")),
    _Step(
        "read",
        "sql_query",
        lambda _: "I propose a query that only reads: what does the shop sell, and at which prices?",
        lambda _: {"query": READ_SQL},
        lambda scene: _asks_for(scene, "read") or _asks_for(scene, "write"),
    ),
    _Step(
        "write",
        "sql_query",
        _write_thought,
        _write,
        # Whoever denied the read does not want the write, and a database that failed once gets no change proposed.
        lambda scene: _asks_for(scene, "write") and scene.outcome("read") is Outcome.OK,
    ),
)

_NAMES = {"fetch": "Page", "code": "Python", "read": "Query", "write": "Change"}
_SAYS = {
    Outcome.OK: "came back with",
    Outcome.DENIED: "was denied, so I did not ask again:",
    Outcome.EXPIRED: "was not decided in time, so I did not ask again:",
    Outcome.UNAVAILABLE: "is not available here, so I went on without it:",
    Outcome.FAILED: "failed:",
}


def _summary(scene: _Scene) -> str:
    lines = [
        f"- {_NAMES[name]} {_SAYS[read_outcome(result)]} {_excerpt(result.text)}"
        for name, result in scene.results.items()
        if name in _NAMES
    ]
    missing = [
        f"- {step.tool} is not among the tools of this session, so I went on without it."
        for step in _STEPS
        if step.tool not in scene.tools and step.name != "write" and step.wanted(scene)
    ]
    if not lines and not missing:
        return (
            f"{LABEL} I am a script, not a language model, and found nothing to do in this task. Name a page "
            "(https://…), Python, the shop's database or a price change, or use `demo:` directives; for real answers "
            "set ANTHROPIC_API_KEY, or OPENROUTER_API_KEY and a model."
        )
    return "\n".join([f"{LABEL} A script, not a language model, did this. What came back:", *lines, *missing])


def _excerpt(text: str, limit: int = 300) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
