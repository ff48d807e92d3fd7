"""A few of the rows that a write changes, as they are before it and after it."""

import json
from dataclasses import dataclass

import asyncpg

from activities.sql import effect_sql
from activities.sql.cells import cell
from activities.sql.connection import Connection
from activities.sql.parameters import BadParameter
from activities.sql.relations import oids
from activities.sql.shaping import CannotShape, ResultColumn, around_query, around_write
from activities.sql.statement import CUT, Prepared, described
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import Column
from conductor_ai.text import shorten
from conductor_ai.visible import visible

SAMPLE_ROWS = 5
MAX_VALUE, MIN_VALUE, MAX_ROW = 200, 16, 8_000
"""Characters of one value and of a row's values together: a person cannot look through more."""
MAX_SHOWN = 16_000
"""Bytes of all sampled rows together, as a person sees them."""
_KEY = """
SELECT a.attname FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = $1 AND i.indisprimary ORDER BY a.attnum
"""


@dataclass
class Sample:
    """Rows as objects; None where there are none to show."""

    before: list[dict[str, Json]] | None = None
    after: list[dict[str, Json]] | None = None
    why: str = ""
    """Why something is missing."""
    ran: bool = False
    """True if the write itself was run to get the rows after it."""

    def evidence(self) -> list[Column]:
        """Lines for the person."""
        found = [
            Column(label=label, value=shorten(visible("\n".join(map(_line, rows))), MAX_SHOWN) or "none")
            for label, rows in (("rows before", self.before), ("rows after", self.after))
            if rows is not None
        ]
        return [*found, Column(label="sample", value=visible(f"not available: {self.why}"))] if self.why else found

    def data(self) -> Json:
        """The same for programs."""
        return {"before": [*self.before] if self.before else None, "after": [*self.after] if self.after else None}


async def take(connection: Connection, prepared: Prepared) -> Sample:
    """Sample an UPDATE, DELETE or INSERT of one table, running it on the way; sorted by the primary key if it has one.

    Each part runs under a savepoint: a role that may write but not read only goes without the sample. A statement with
    a RETURNING of its own is run without it here, and undone: what that calls belongs to the effect.
    """
    sample = Sample()
    if prepared.verdict.writes_inside or len(prepared.verdict.targets) != 1:
        sample.why = "the statement writes in more than one place"
        return sample
    try:
        before, after = effect_sql.rows_before(prepared.text), effect_sql.rows_after(prepared.text)
        found = await oids(connection, prepared.verdict.targets)
        keys = [row["attname"] for oid in found for row in await connection.fetch(_KEY, oid)]
        if before is not None:
            sample.before = await _rows(connection, before, prepared, keys, write=False)
        if after is not None:
            own = prepared.verdict.returns_rows
            sample.after = await _rows(connection, after, prepared, keys, write=True, undo=own)
            sample.ran = not own
    except CannotShape:
        sample.why = "the statement is too unusual for a sample"
    except asyncpg.InsufficientPrivilegeError:
        sample.why = "the role may write to this table, but not read it"
    except BadParameter as error:
        sample.why = str(error)
    return sample


async def _rows(
    connection: Connection, text: str, prepared: Prepared, keys: list[str], *, write: bool, undo: bool = False
) -> list[dict[str, Json]]:
    savepoint = connection.transaction()
    await savepoint.start()
    done = False
    try:
        columns = await described(connection, text)
        order = effect_sql.ordered([column.name for column in columns], keys)
        if write:
            shown = around_write(text, columns, SAMPLE_ROWS, order)
        else:
            sorting = f"SELECT * FROM (\n{text}\n) AS r({_names(columns)})"  # noqa: S608 - checked text
            sorting += f" ORDER BY {', '.join(order)}" if order else ""
            shown = around_query(sorting, columns, SAMPLE_ROWS)
        records = await connection.fetch(shown, *prepared.values)
        done = not undo
        return [_object(columns, tuple(record)[1 if write else 0 :]) for record in records]
    finally:
        await (savepoint.commit() if done else savepoint.rollback())


def _line(row: dict[str, Json]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _names(columns: tuple[ResultColumn, ...]) -> str:
    return ", ".join(f"c{number}" for number in range(1, len(columns) + 1))


def _object(columns: tuple[ResultColumn, ...], values: tuple[str | None, ...]) -> dict[str, Json]:
    cap = max(MIN_VALUE, min(MAX_VALUE, MAX_ROW // max(1, len(columns))))
    return {
        column.name: cell(value, column.oid) if value is None or len(value) <= cap else value[:cap] + CUT
        for column, value in zip(columns, values, strict=True)
    }
