"""What a person sees before deciding: the statement's kind, tables and columns, the planner's estimate, and for a write
its exact effect, from a run that is rolled back. Whatever cannot be had says why."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from activities.sql import catalog, effects, statement
from activities.sql.connection import LOST, Connection
from activities.sql.effects import Effects
from activities.sql.failures import FAILURES, failed
from activities.sql.limits import READ_COMMITTED, Limits
from activities.sql.obstacles import foreign, in_the_way
from activities.sql.relations import described
from activities.sql.sample import Sample, take
from activities.sql.statement import Prepared
from activities.sql.verdict import Kind, Relation, Verdict, refused
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import Column, Consequence, SqlClass, ToolError
from conductor_ai.text import shorten
from conductor_ai.visible import visible

ESTIMATE_SECONDS = 5.0
TRIAL_SECONDS = 10.0
ROUND_TRIPS_SECONDS = 1.0
"""On top of a part's own limit, for the small questions around its statement."""
MAX_LINE = 1_000
"""Bytes of a line of evidence."""


class Trial:
    """What is known of a write's effect: the effect, or why not."""

    def __init__(self, effect: Effects | None = None, sample: Sample | None = None, why: str = "") -> None:
        self.effect = effect
        self.sample = sample
        self.why = why


async def preview(connection: Connection, verdict: Verdict, params: Sequence[Any], limits: Limits) -> Consequence:
    """Look at everything that can be known without changing anything."""
    tables = tuple(map(str, verdict.tables))
    try:
        async with (
            asyncio.timeout(min(limits.timeout_seconds, ESTIMATE_SECONDS) + ROUND_TRIPS_SECONDS),
            connection.transaction(isolation=READ_COMMITTED, readonly=True),
        ):
            await limits.enter(connection, min(limits.timeout_seconds, ESTIMATE_SECONDS))
            await limits.become_role(connection)
            tables = tuple(await described(connection, verdict.tables, limits.search_path[0]))
            hidden = await catalog.look_up(connection, verdict, limits.search_path)
            if hidden is not None:
                return refusal_of(refused(*hidden))
            estimate = await _estimate(connection, verdict, params)
            obstacle = await in_the_way(connection, verdict) if verdict.sql_class is SqlClass.WRITE else None
    except (*LOST, *FAILURES) as error:
        if isinstance(error, LOST) and not isinstance(error, TimeoutError):
            raise
        # The statement as it stands fails, or the set-up does: the person is told, and may still decide.
        return unavailable(verdict, _why(error, limits), tables)
    if verdict.sql_class is not SqlClass.WRITE:
        return _consequence(verdict, tables, estimate, None)
    trial = Trial(why=obstacle) if obstacle else await _try(connection, verdict, params, limits)
    return _consequence(verdict, tables, estimate, trial)


def refusal_of(verdict: Verdict) -> Consequence:
    """The gate says no: nobody is asked."""
    return Consequence(
        summary=visible(f"Refused: {verdict.sentence}"),
        risk="high",
        refused=ToolError(code="sql_refused", message=verdict.sentence),
    )


def _why(error: BaseException, limits: Limits) -> str:
    if isinstance(error, TimeoutError):
        return "looking it up took too long"
    return failed(error, limits.timeout_seconds).content


async def _estimate(connection: Connection, verdict: Verdict, params: Sequence[Any]) -> str:
    """EXPLAIN's idea of the rows; the statement itself is not run."""
    prepared = await statement.prepare(connection, verdict, params)
    if verdict.kind in (Kind.EXPLAIN, Kind.SHOW):
        return "not available: the statement reads no table"
    elsewhere = await foreign(connection, verdict)
    if elsewhere is not None:
        return f"not available: {elsewhere}"
    plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {prepared.text}", *prepared.values))[0]["Plan"]
    below = plan["Plans"][0] if plan.get("Operation") and plan.get("Plans") else plan
    rows = int(below["Plan Rows"])
    return f"about {rows} row{'' if rows == 1 else 's'}, cost {plan['Total Cost']:.0f}"


async def _try(connection: Connection, verdict: Verdict, params: Sequence[Any], limits: Limits) -> Trial:
    """Run the write and roll it back."""
    seconds = min(limits.timeout_seconds, TRIAL_SECONDS)
    transaction = connection.transaction(isolation=READ_COMMITTED)
    await transaction.start()
    try:
        async with asyncio.timeout(seconds + ROUND_TRIPS_SECONDS):
            await limits.enter(connection, seconds, 2.0)
            await limits.become_role(connection)
            return await _effect(connection, await statement.prepare(connection, verdict, params), seconds)
    except TimeoutError:
        return Trial(why="the trial run took too long")
    except LOST:
        raise
    except FAILURES as error:
        return Trial(why=failed(error, seconds).content)
    finally:
        await transaction.rollback()


async def _effect(connection: Connection, prepared: Prepared, seconds: float) -> Trial:
    before = await effects.count(connection)
    sample = await take(connection, prepared)
    if not sample.ran:
        before = await effects.count(connection)  # the server counts what the sample has undone, too
        await statement.run(connection, prepared, 1, seconds)
    # Deferred constraints would only speak at the commit that never comes.
    await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return Trial((await effects.count(connection)).since(before), sample)


def _consequence(verdict: Verdict, tables: Sequence[str], estimate: str, trial: Trial | None) -> Consequence:
    evidence = [Column(label="statement", value=verdict.kind.value)]
    if tables:
        evidence.append(_line("tables", ", ".join(tables)))
    if verdict.columns:
        evidence.append(_line("columns", ", ".join(verdict.columns)))
    evidence.append(_line("estimate", estimate))
    data: dict[str, Json] = {"sql_class": verdict.sql_class.value, "kind": verdict.kind.value, "effect": None}
    if trial is None:
        kind = "Reads" if verdict.sql_class is SqlClass.READ else "Writes"
        names = _named(verdict.tables) or "no table"
        risk = "low" if verdict.sql_class is SqlClass.READ else "high"
        return Consequence(
            summary=f"{kind} ({verdict.kind.value}): {names}.", risk=risk, evidence=tuple(evidence), data=data
        )
    targets = _named(verdict.targets) or "a sequence"
    if trial.effect is None:
        evidence.append(_line("effect", f"not available: {trial.why}"))
        summary = f"Writes ({verdict.kind.value}) to {targets}; how many rows is not known."
        return Consequence(summary=summary, risk="high", evidence=tuple(evidence), data=data)
    words = shorten(visible(str(trial.effect)), MAX_LINE)
    evidence.append(Column(label="effect", value=f"{words} (from a trial run that was rolled back)"))
    if trial.sample is not None:
        evidence.extend(trial.sample.evidence())
        data["sample"] = trial.sample.data()
    data["effect"] = trial.effect.model_dump(mode="json")
    data["rows"] = trial.effect.rows
    return Consequence(
        summary=f"Writes ({verdict.kind.value}) to {targets}: {words}.",
        risk="high" if trial.effect.rows > 100 or any(c.deleted for c in trial.effect.changes) else "medium",
        evidence=tuple(evidence),
        data=data,
    )


def unavailable(verdict: Verdict, why: str, tables: Sequence[str] | None = None) -> Consequence:
    """Nothing could be looked up but the text itself."""
    names = tuple(map(str, verdict.tables)) if tables is None else tables
    trial = Trial(why=why) if verdict.sql_class is SqlClass.WRITE else None
    return _consequence(verdict, names, f"not available: {why}", trial)


def _line(label: str, value: str) -> Column:
    """Evidence as a person may see it: nothing hidden in it, and no longer than anybody reads."""
    return Column(label=label, value=shorten(visible(value), MAX_LINE))


def _named(relations: Sequence[Relation]) -> str:
    return shorten(visible(", ".join(map(str, relations))), MAX_LINE)
