"""Statements that show which rows a write means: those before it, and those after it. Pure."""

from collections.abc import Sequence
from typing import Any

from postgast import parse
from postgast import pg_query_pb2 as pg

from activities.sql.shaping import verified
from activities.sql.tree import descend, inner


def _target_columns(relation: Any) -> pg.Node:
    """`alias.*` of the target as an item of a select list."""
    name = relation.alias.aliasname or relation.relname
    node = pg.Node()
    reference = node.res_target.val.column_ref
    reference.fields.add().string.sval = name
    reference.fields.add().a_star.SetInParent()
    return node


def _name_parameters(statement: Any, text: str) -> None:
    """Add a WITH query that nobody reads: a $n that only the part left out uses would have no type."""
    numbers = {item.number for item in descend(parse(text)) if isinstance(item, pg.ParamRef)}
    if numbers:
        names = ", ".join(f"${number}::text" for number in range(1, max(numbers) + 1))
        shell = inner(parse(f"WITH conductor_parameters AS (SELECT {names}) SELECT 1").stmts[0].stmt)
        statement.with_clause.ctes.append(shell.with_clause.ctes[0])


def rows_before(text: str) -> str | None:
    """`SELECT target.* FROM …` with the WHERE of an UPDATE or DELETE; None for anything else.

    Raises:
        CannotShape: the statement does not survive the deparser unchanged.
    """
    write = inner(parse(text).stmts[0].stmt)
    if not isinstance(write, (pg.UpdateStmt, pg.DeleteStmt)):
        return None
    shell = parse("SELECT 1")
    select = inner(shell.stmts[0].stmt)
    del select.target_list[:]
    select.target_list.append(_target_columns(write.relation))
    select.from_clause.add().range_var.CopyFrom(write.relation)
    select.from_clause.extend(write.from_clause if isinstance(write, pg.UpdateStmt) else write.using_clause)
    select.where_clause.CopyFrom(write.where_clause)
    if write.HasField("with_clause"):
        select.with_clause.CopyFrom(write.with_clause)
    _name_parameters(select, text)
    return verified(shell)


def rows_after(text: str) -> str | None:
    """The same INSERT or UPDATE, returning the rows of its target; None for anything else.

    Raises:
        CannotShape: see `rows_before`.
    """
    tree = parse(text)
    write = inner(tree.stmts[0].stmt)
    if not isinstance(write, (pg.InsertStmt, pg.UpdateStmt)):
        return None
    write.ClearField("returning_clause")
    write.returning_clause.exprs.append(_target_columns(write.relation))
    _name_parameters(write, text)
    return verified(tree)


def ordered(columns: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    """Positions (c1, c2 …) of the key columns among the columns of a sample."""
    places = {name: f"c{number}" for number, name in enumerate(columns, 1)}
    return tuple(places[name] for name in keys if name in places)
