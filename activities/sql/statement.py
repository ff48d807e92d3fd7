"""Runs one statement that the gate has let through, inside of a transaction that is already open."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import asyncpg

from activities.sql.cells import cell
from activities.sql.connection import Connection
from activities.sql.parameters import BadParameter, ParameterType, as_text, with_types
from activities.sql.rows import BATCH, MAX_TOTAL_CHARACTERS, Rows
from activities.sql.shaping import (
    ResultColumn,
    around_nested_write,
    around_query,
    around_write,
    cell_cap,
)
from activities.sql.verdict import Kind, Verdict

CUT = "… (cut)"
_NAMES = (
    "SELECT o.oid, pg_catalog.format_type(o.oid, -1) AS name FROM pg_catalog.unnest($1::oid[]) WITH ORDINALITY AS "
    "o(oid, place) ORDER BY o.place"
)
_TAG = re.compile(r"^(?:INSERT \d+|UPDATE|DELETE|SELECT|MERGE) (\d+)$")


class Prepared:
    """A statement of which the server has said what its parameters and columns are."""

    def __init__(
        self, verdict: Verdict, text: str, values: list[str | None], columns: tuple[ResultColumn, ...]
    ) -> None:
        self.verdict = verdict
        self.text = text
        """With a cast at every parameter."""
        self.values = values
        self.columns = columns


async def prepare(connection: Connection, verdict: Verdict, params: Sequence[Any]) -> Prepared:
    """Let the server analyse the statement.

    Raises:
        BadParameter: the parameters do not fit.
        asyncpg.PostgresError: the server does not accept the statement.
    """
    plan = await connection.prepare(verdict.text)
    expected, attributes = plan.get_parameters(), plan.get_attributes()
    if len(expected) != len(params):
        raise BadParameter(f"The statement needs {len(expected)} params ($1 …), but {len(params)} were sent.")
    oids = [kind.oid for kind in expected] + [column.type.oid for column in attributes]
    names = [row["name"] for row in await connection.fetch(_NAMES, oids)] if oids else []
    kinds = [ParameterType(kind.oid, name) for kind, name in zip(expected, names, strict=False)]
    values = [as_text(place, value, kind) for place, (value, kind) in enumerate(zip(params, kinds, strict=True), 1)]
    columns = tuple(
        ResultColumn(column.name, column.type.oid, name)
        for column, name in zip(attributes, names[len(kinds) :], strict=True)
    )
    return Prepared(verdict, with_types(verdict.text, kinds) if kinds else verdict.text, values, columns)


async def described(connection: Connection, text: str) -> tuple[ResultColumn, ...]:
    """The columns that a statement would bring back."""
    attributes = (await connection.prepare(text)).get_attributes()
    return tuple(ResultColumn(column.name, column.type.oid, column.type.name) for column in attributes)


class TookTooLong(Exception):
    """Every batch of rows came in time, but all of them together did not."""


async def run(connection: Connection, prepared: Prepared, max_rows: int, seconds: float) -> Rows:
    """Execute it and take in its rows up to the caps. A write always runs to its end.

    Args:
        seconds: for all of it. The server's own limit is for each request, and every batch of rows is one.

    Raises:
        TookTooLong: see above.
        CannotShape: see `shaping.around_nested_write`.
        asyncpg.PostgresError: the statement failed.
    """
    kind = prepared.verdict.kind
    wrote = kind in (Kind.INSERT, Kind.UPDATE, Kind.DELETE)
    if not prepared.columns:
        return await _without_rows(connection, prepared, wrote=wrote)
    if kind in (Kind.EXPLAIN, Kind.SHOW):
        return await _fetch(connection, prepared, prepared.text, max_rows, seconds, counted=False)
    if prepared.verdict.writes_inside:
        text = around_nested_write(prepared.text, prepared.columns, max_rows + 1)
    elif wrote:
        text = around_write(prepared.text, prepared.columns, max_rows + 1)
    else:
        text = around_query(prepared.text, prepared.columns, max_rows + 1)
        return await _fetch(connection, prepared, text, max_rows, seconds, counted=False)
    found = await _fetch(connection, prepared, text, max_rows, seconds, counted=True)
    if not wrote:
        found.affected = None  # the count is that of an outer SELECT
    return found


async def _without_rows(connection: Connection, prepared: Prepared, *, wrote: bool) -> Rows:
    plan = await connection.prepare(prepared.text)
    await plan.fetch(*prepared.values)
    return Rows(affected=affected_by(plan.get_statusmsg()) if wrote else None)


def affected_by(tag: str | None) -> int:
    """The number in a command tag such as `UPDATE 3`."""
    found = _TAG.match(tag or "")
    return int(found.group(1)) if found else 0


async def _fetch(
    connection: Connection, prepared: Prepared, text: str, max_rows: int, seconds: float, *, counted: bool
) -> Rows:
    found = Rows(columns=prepared.columns, affected=0 if counted else None)
    plan = await connection.prepare(text)
    cursor = await plan.cursor(*prepared.values)
    total = 0
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while batch := await cursor.fetch(BATCH):
        for record in batch:
            if counted:
                found.affected = record[0]
            if len(found.rows) == max_rows:
                found.mark("rows")
                return found
            cells, size = _cells(found, record, 1 if counted else 0)
            total += size
            if total > MAX_TOTAL_CHARACTERS:
                found.mark("size")
                return found
            found.rows.append(cells)
        await _shorten(connection, deadline - clock(), seconds)
    return found


async def _shorten(connection: Connection, left: float, seconds: float) -> None:
    """The next batch has what the earlier ones left of the time."""
    if left <= 0:
        raise TookTooLong
    if left < 0.9 * seconds:
        await connection.execute(f"SET LOCAL statement_timeout TO {max(1, int(left * 1000))}")


def _cells(found: Rows, record: asyncpg.Record, first: int) -> tuple[list[Any], int]:
    cap = cell_cap(len(found.columns))
    cells: list[Any] = []
    size = 0
    for column, value in zip(found.columns, tuple(record)[first:], strict=True):
        text = value if value is None or isinstance(value, str) else str(value)
        size += len(text or "")
        if text is not None and len(text) > cap:
            found.mark("cells")
            cells.append(text[:cap] + CUT)
        else:
            cells.append(cell(text, column.oid))
    return cells, size
