"""Walks the whole tree of one statement and writes down what it does. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from postgast import pg_query_pb2 as pg

from activities.sql.allowed_nodes import ALLOWED_NODES
from activities.sql.conditions import picks_rows
from activities.sql.functions import SEQUENCE_WRITERS, denied
from activities.sql.reasons import Reason
from activities.sql.tree import children, column_path, inner, strings
from activities.sql.verdict import FunctionName, Relation

LEDGER_SCHEMA = "conductor_ledger"
_LEAVES = frozenset({pg.A_Const, pg.A_Star, pg.String, pg.Integer, pg.SQLValueFunction})
_ALLOWED = frozenset(getattr(pg, name) for name in ALLOWED_NODES)
_WITH = (pg.SelectStmt, pg.InsertStmt, pg.UpdateStmt, pg.DeleteStmt)
_SECRET_TABLES = frozenset({"pg_db_role_setting", "pg_roles", "pg_authid", "pg_shadow", "pg_user"})
_BETWEEN = (pg.AEXPR_BETWEEN, pg.AEXPR_NOT_BETWEEN, pg.AEXPR_BETWEEN_SYM, pg.AEXPR_NOT_BETWEEN_SYM)
_UNREPEATABLE = frozenset({"random", "random_normal", "array_shuffle", "array_sample"}) | SEQUENCE_WRITERS


@dataclass
class Findings:
    """What one walk found. `reason` is the first ground for refusal, if there is any."""

    reason: Reason = Reason.ALLOWED
    detail: str = ""
    tables: dict[Relation, None] = field(default_factory=dict)
    targets: dict[Relation, None] = field(default_factory=dict)
    columns: dict[str, None] = field(default_factory=dict)
    functions: dict[FunctionName, None] = field(default_factory=dict)
    operators: dict[str, None] = field(default_factory=dict)
    types: dict[str, None] = field(default_factory=dict)
    parameters: int = 0
    writers: int = 0
    moves_sequence: bool = False
    repeatable: bool = True

    def refuse(self, reason: Reason, detail: str = "") -> None:
        """Keep the first ground only."""
        if self.reason is Reason.ALLOWED:
            self.reason, self.detail = reason, detail


def survey(root: Any) -> Findings:
    """Walk everything below `root`, in the order of the text, until something must be refused."""
    found = Findings()
    stack: list[tuple[Any, frozenset[str]]] = [(inner(root), frozenset())]
    while stack and found.reason is Reason.ALLOWED:
        item, scope = stack.pop()
        kind = type(item)
        if kind in _LEAVES:
            continue
        if kind is pg.ColumnRef:
            found.columns[column_path(item)[-1]] = None
            continue
        if kind not in _ALLOWED:
            if kind is not pg.Node:  # an empty wrapper is a place that the grammar leaves open, as in a[:2]
                found.refuse(*_unknown(item))
            continue
        note = _NOTES.get(kind)
        if note is not None:
            note(found, item, scope)
        stack.extend(reversed(_below(item, scope)))
    return found


def _below(item: Any, scope: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
    """The children, each with the names of the WITH queries that it can see."""
    below = children(item)
    if type(item) not in _WITH or not item.HasField("with_clause"):
        return [(child, scope) for name, child in below if name != "relation"]
    queries = [inner(query) for query in item.with_clause.ctes]
    everything = scope | {query.ctename for query in queries}
    seen, found = scope, []
    for query in queries:
        found.append((query, everything if item.with_clause.recursive else seen))
        seen |= {query.ctename}
    return found + [(child, everything) for name, child in below if name not in ("with_clause", "relation")]


def _unknown(item: Any) -> tuple[Reason, str]:
    name = item.DESCRIPTOR.name
    if name == "IntoClause":
        return Reason.INTO, ""
    if name == "LockingClause":
        return Reason.LOCKING, ""
    if name.startswith("Merge"):
        return Reason.MERGE, ""
    return Reason.NODE_KIND, name


def _call(found: Findings, item: pg.FuncCall, _scope: frozenset[str]) -> None:
    path = strings(item.funcname)
    if path[-1] == "current_setting":
        _setting(found, item)
    _function(found, path)


def _operator(found: Findings, item: pg.A_Expr, _scope: frozenset[str]) -> None:
    if item.kind in _BETWEEN:
        found.operators.update({">=": None, "<=": None, "<": None, ">": None})
    elif item.name:
        found.operators[strings(item.name)[-1]] = None


def _parameter(found: Findings, item: pg.ParamRef, _scope: frozenset[str]) -> None:
    found.parameters = max(found.parameters, item.number)
    if item.number < 1:
        found.refuse(Reason.SYNTAX, "parameters are written $1, $2 and so on")


def _indirection(found: Findings, item: pg.A_Indirection, _scope: frozenset[str]) -> None:
    found.columns.update(dict.fromkeys(text for text in strings(item.indirection) if text))


def _sorting(found: Findings, item: pg.SortBy, _scope: frozenset[str]) -> None:
    found.operators.update(dict.fromkeys(strings(item.use_op)[-1:]))


def _subquery(found: Findings, item: pg.SubLink, _scope: frozenset[str]) -> None:
    found.operators.update(dict.fromkeys(strings(item.oper_name)[-1:] or ("=",)))


def _compares(found: Findings, _item: Any, _scope: frozenset[str]) -> None:
    found.operators["="] = None  # CASE x WHEN y, USING and NATURAL


def _type(found: Findings, item: pg.TypeName, _scope: frozenset[str]) -> None:
    names = strings(item.names)
    found.types.update(dict.fromkeys(names[-1:]))
    if LEDGER_SCHEMA in names[:-1]:
        found.refuse(Reason.LEDGER)


def _show(found: Findings, item: pg.VariableShowStmt, _scope: frozenset[str]) -> None:
    if "." in item.name:
        found.refuse(Reason.SECRETS, item.name)


def _setting(found: Findings, item: pg.FuncCall) -> None:
    """current_setting() only of a name that stands there, without a dot."""
    name = inner(item.args[0]) if item.args else None
    text = name.sval.sval if isinstance(name, pg.A_Const) else ""
    if not text or "." in text:
        found.refuse(Reason.SECRETS, "current_setting")


def _insert(found: Findings, item: pg.InsertStmt, _scope: frozenset[str]) -> None:
    _target(found, item.relation)
    found.columns.update(dict.fromkeys(inner(column).name for column in item.cols))


def _update(found: Findings, item: pg.UpdateStmt, _scope: frozenset[str]) -> None:
    _target(found, item.relation)
    found.columns.update(dict.fromkeys(inner(column).name for column in item.target_list))
    _condition(found, item)


def _delete(found: Findings, item: pg.DeleteStmt, _scope: frozenset[str]) -> None:
    _target(found, item.relation)
    _condition(found, item)


def _table(found: Findings, item: pg.RangeVar, scope: frozenset[str]) -> None:
    if item.schemaname == LEDGER_SCHEMA:
        found.refuse(Reason.LEDGER)
    if item.relname in _SECRET_TABLES and item.schemaname in ("", "pg_catalog") and item.relname not in scope:
        found.refuse(Reason.SECRETS, item.relname)
    if item.schemaname or item.relname not in scope:
        found.tables[Relation(schema_name=item.schemaname, name=item.relname)] = None


def _target(found: Findings, item: pg.RangeVar) -> None:
    found.writers += 1
    unqualified = not item.schemaname and item.relname.startswith("pg_")
    if unqualified or item.schemaname.startswith("pg_") or item.schemaname == "information_schema":
        found.refuse(Reason.SYSTEM_TABLE, item.relname)
    found.targets[Relation(schema_name=item.schemaname, name=item.relname)] = None
    _table(found, item, frozenset())


def _condition(found: Findings, item: Any) -> None:
    if not item.HasField("where_clause"):
        found.refuse(Reason.NO_WHERE, item.relation.relname)
    elif not picks_rows(item.where_clause, (item.relation.alias.aliasname or item.relation.relname,)):
        found.refuse(Reason.CONSTANT_WHERE, item.relation.relname)


def _function(found: Findings, path: tuple[str, ...]) -> None:
    name = FunctionName(schema_name=path[-2] if len(path) > 1 else "", name=path[-1])
    found.functions[name] = None
    reason = denied(name.name)
    if reason is not None:
        found.refuse(reason, name.name)
    found.moves_sequence |= name.name in SEQUENCE_WRITERS
    found.repeatable &= name.name not in _UNREPEATABLE


_NOTES: dict[type[Any], Callable[[Findings, Any, frozenset[str]], None]] = {
    pg.FuncCall: _call,
    pg.A_Expr: _operator,
    pg.ParamRef: _parameter,
    pg.RangeVar: _table,
    pg.A_Indirection: _indirection,
    pg.SortBy: _sorting,
    pg.SubLink: _subquery,
    pg.CaseExpr: _compares,
    pg.JoinExpr: _compares,
    pg.TypeName: _type,
    pg.VariableShowStmt: _show,
    pg.InsertStmt: _insert,
    pg.UpdateStmt: _update,
    pg.DeleteStmt: _delete,
}
"""Kinds of nodes that have something to say, and how to write it down."""
