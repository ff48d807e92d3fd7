"""Puts a statement inside of another that cuts its rows on the server, so that no value can fill our memory. Pure.

Every column comes back as text, cut to the cell's cap. The text between the brackets is the approved one. Only a
statement that writes in a WITH query cannot stand in brackets; its WITH list is moved outward by the deparser, and the
result is parsed again and must be the same tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from postgast import PgQueryError, deparse, parse
from postgast import pg_query_pb2 as pg

from activities.sql.tree import inner, key

ROWS = "conductor_rows"
VOID = 2278
MAX_ROW_CHARACTERS = 262_144
MIN_CELL, MAX_CELL = 64, 8_192


@dataclass(frozen=True)
class ResultColumn:
    """A column of a result as the server describes it."""

    name: str
    oid: int
    type_name: str


class CannotShape(ValueError):
    """The statement cannot be put inside of another; the message is a sentence for the model."""


def cell_cap(columns: int) -> int:
    """Characters of one cell: at most 8,192, less where there are very many columns."""
    return max(MIN_CELL, min(MAX_CELL, MAX_ROW_CHARACTERS // max(1, columns)))


def _names(count: int) -> str:
    return ", ".join(f"c{number}" for number in range(1, count + 1))


def _cells(columns: Sequence[ResultColumn]) -> str:
    # One character more than the cap shows that something was cut.
    cap = cell_cap(len(columns)) + 1
    return ", ".join(
        "NULL::text" if column.oid == VOID else f'left({ROWS}.c{number}::text, {cap}) AS "c{number}"'
        for number, column in enumerate(columns, 1)
    )


def around_query(text: str, columns: Sequence[ResultColumn], limit: int) -> str:
    """A SELECT or VALUES, cut to `limit` rows and the cell's cap."""
    named = f"{ROWS}({_names(len(columns))})"
    return f"SELECT {_cells(columns)} FROM (\n{text}\n) AS {named} LIMIT {limit}"  # noqa: S608 - the approved text


def around_write(text: str, columns: Sequence[ResultColumn], limit: int, order: Sequence[str] = ()) -> str:
    """An INSERT, UPDATE or DELETE with RETURNING: it runs to its end, its first rows come back, and how many there are.

    The first column of the result is the number of rows. `order` names columns of the result (c1, c2 ...).
    """
    sorting = f" ORDER BY {', '.join(f'{ROWS}.{name}' for name in order)}" if order else ""
    named = f"{ROWS}({_names(len(columns))})"
    shown = f"SELECT count(*) OVER (), {_cells(columns)} FROM {ROWS}{sorting} LIMIT {limit}"  # noqa: S608 - our own names
    return f"WITH {named} AS (\n{text}\n) {shown}"


def around_nested_write(text: str, columns: Sequence[ResultColumn], limit: int) -> str:
    """A statement with writing WITH queries: they stay at the top, the rest becomes one more WITH query.

    Raises:
        CannotShape: the statement does not survive the way through the deparser unchanged.
    """
    tree = parse(text)
    top = inner(tree.stmts[0].stmt)
    shell = parse(around_write("SELECT 1", columns, limit))
    outer = inner(shell.stmts[0].stmt)
    query = inner(outer.with_clause.ctes[0])
    clause = pg.WithClause()
    clause.CopyFrom(top.with_clause)
    top.ClearField("with_clause")
    query.ctequery.CopyFrom(tree.stmts[0].stmt)
    clause.ctes.add().common_table_expr.CopyFrom(query)
    outer.with_clause.CopyFrom(clause)
    return verified(shell)


def verified(tree: Any) -> str:
    """The text of a tree, if reading it again gives that tree.

    Raises:
        CannotShape: it does not.
    """
    try:
        text: str = deparse(tree)
        again = parse(text)
    except PgQueryError as error:
        raise CannotShape(_SENTENCE) from error
    if key(again.stmts[0].stmt) != key(tree.stmts[0].stmt):
        raise CannotShape(_SENTENCE)
    return text


_SENTENCE = (
    "The rows of a statement that writes in a WITH query cannot be shown here. Leave the outer SELECT out, or write "
    "first and read in a call of its own."
)
