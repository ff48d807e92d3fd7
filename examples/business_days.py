"""A tool of one's own: one async function and the model of its arguments.

    PYTHONPATH=examples CONDUCTOR_TOOL_MODULES=business_days conductor dev

It neither writes nor can be hurt by running twice, and says so. The shipped policy asks a person all the same: it asks for
every tool that it does not know.
"""

from datetime import date, timedelta

from pydantic import Field

from activities.tools.base import Arguments, tool

FRIDAY = 4
DAYS_MAX = 36_600
"""A century is more than anybody plans."""


class Span(Arguments):
    """What the model sends."""

    first: date = Field(description="The first day, as YYYY-MM-DD.")
    last: date = Field(description="The last day, counted too.")
    holidays: tuple[date, ...] = Field(
        default=(), max_length=1_000, description="Days off besides Saturdays and Sundays."
    )


@tool(arguments=Span, writes=False, replayable=True)
async def business_days(span: Span) -> str:
    """Counts the working days from one day to another, Mondays to Fridays without the holidays that are named."""
    days = (span.last - span.first).days + 1
    if not 0 < days <= DAYS_MAX:
        return f"The last day must come after the first, within {DAYS_MAX:,} days. Nothing was counted."
    free = set(span.holidays)
    everyday = (span.first + timedelta(days=number) for number in range(days))
    count = sum(1 for day in everyday if day.weekday() <= FRIDAY and day not in free)
    return f"{count} working days from {span.first.isoformat()} to {span.last.isoformat()}."
