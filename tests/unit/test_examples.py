"""The example of a tool: found by its module, described by its model, right in what it counts."""

from datetime import date
from pathlib import Path

import pytest

from activities.tools.base import Call
from activities.tools.registry import Registry, discover, named_modules
from conductor_ai.approvals import SHIPPED, Effect, Subject
from conductor_ai.contracts.models import ProposedCall
from infra.docs.source import ROOT

CALL = Call("org_1", "sess_1", "call_1", "run_1", 1)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """What a worker has with PYTHONPATH=examples and CONDUCTOR_TOOL_MODULES=business_days."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return Registry(discover(named_modules(["business_days"])))


async def answer(registry: Registry, **arguments: object) -> str:
    """What the tool says to a proposed call."""
    proposed = ProposedCall(provider_id="toolu_1", tool="business_days", arguments=dict(arguments))
    checked = registry.check(proposed, ("business_days",))
    assert checked.refused is None, checked.refused
    found = registry.arguments("business_days", checked.arguments)
    assert found is not None
    tool, parsed = found
    return (await tool.run(parsed, CALL)).content


@pytest.mark.parametrize(
    ("first", "last", "holidays", "count"),
    [
        (date(2026, 11, 23), date(2026, 11, 23), [], 1),
        (date(2026, 11, 21), date(2026, 11, 22), [], 0),
        (date(2026, 11, 23), date(2026, 11, 29), [], 5),
        (date(2026, 12, 21), date(2027, 1, 3), [date(2026, 12, 25), date(2027, 1, 1)], 8),
        (date(2026, 12, 26), date(2026, 12, 27), [date(2026, 12, 26)], 0),
    ],
)
async def test_business_days(registry: Registry, first: date, last: date, holidays: list[date], count: int) -> None:
    """Weekends and holidays are not counted, a holiday on a weekend not twice; both ends are."""
    said = await answer(
        registry, first=first.isoformat(), last=last.isoformat(), holidays=[d.isoformat() for d in holidays]
    )
    assert said.startswith(f"{count} working days ")


async def test_an_impossible_span_is_told(registry: Registry) -> None:
    """The model can act on it, so it is text and no failure."""
    assert "Nothing was counted" in await answer(registry, first="2026-11-23", last="2026-11-22")
    assert "Nothing was counted" in await answer(registry, first="0001-01-01", last="9999-12-31")


def test_the_example_is_asked_and_replayable(registry: Registry) -> None:
    """It says that it neither writes nor minds a repetition; the shipped policy asks all the same."""
    tool = registry.get("business_days")
    assert tool is not None
    found = registry.arguments("business_days", {"first": "2026-11-23", "last": "2026-11-24"})
    assert found is not None
    facts = tool.facts(found[1])
    assert (facts.writes, facts.replayable) == (False, True)
    assert SHIPPED.rule(Subject("business_days", facts)).effect is Effect.ASK
    assert tool.spec.requires_approval


def test_the_page_shows_the_example() -> None:
    """What the how-to quotes of the example is in the example."""
    page = (ROOT / "docs/how-to/add-a-tool.md").read_text(encoding="utf-8")
    source = Path(ROOT / "examples/business_days.py").read_text(encoding="utf-8")
    quoted = page.partition("```python\n")[2].partition("```")[0]
    assert [line for line in quoted.splitlines() if line.strip() != "…" and line not in source] == []
