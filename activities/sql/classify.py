"""The gate: one pure function from the text of a statement to a verdict.

It reads with PostgreSQL's own parser and walks the whole tree, so a word in a literal, a comment or a quoted name means
nothing to it. It never raises and its time is bounded. The gate keeps accidents and mischief away from a person's
inbox; the database's own rights, transactions and limits are what holds if the gate is wrong.
"""

from typing import Any

from postgast import pg_query_pb2 as pg

from activities.sql.findings import Findings, survey
from activities.sql.parsing import Refusal, read, text_of
from activities.sql.reasons import Reason
from activities.sql.tree import inner
from activities.sql.verdict import Kind, Verdict, refused
from conductor_ai.contracts.tools import SqlClass

_KINDS: dict[type[Any], Kind] = {
    pg.SelectStmt: Kind.SELECT,
    pg.InsertStmt: Kind.INSERT,
    pg.UpdateStmt: Kind.UPDATE,
    pg.DeleteStmt: Kind.DELETE,
    pg.ExplainStmt: Kind.EXPLAIN,
    pg.VariableShowStmt: Kind.SHOW,
}
_EXPLAINED = (pg.SelectStmt, pg.InsertStmt, pg.UpdateStmt, pg.DeleteStmt)
_NOT = ("false", "off", "0")


def classify(statement: str, *, of_view: bool = False) -> Verdict:
    """Decide whether a statement may be put before a person, and say what it does.

    Args:
        statement: the text as the model wrote it, with parameters as $1, $2 ...
        of_view: it is the text of a view as the target tells it, which may be longer.
    """
    raw = read(statement, of_view=of_view)
    if isinstance(raw, Refusal):
        return refused(raw.reason, raw.detail)
    top = inner(raw.stmt)
    kind = _KINDS.get(type(top), Kind.NONE)
    if kind is Kind.NONE:
        merge = top.DESCRIPTOR.name == "MergeStmt"
        return refused(Reason.MERGE if merge else Reason.STATEMENT_KIND, "" if merge else top.DESCRIPTOR.name)
    if kind is Kind.SELECT and top.values_lists:
        kind = Kind.VALUES
    found = survey(top)
    if kind is Kind.EXPLAIN:
        _explain(found, top)
    if found.reason is not Reason.ALLOWED:
        return refused(found.reason, found.detail, kind)
    return _verdict(found, top, kind, text_of(statement, raw))


def _explain(found: Findings, top: pg.ExplainStmt) -> None:
    """Only of the four; with ANALYZE only where nothing is written."""
    explained = inner(top.query)
    if not isinstance(explained, _EXPLAINED):
        found.refuse(Reason.STATEMENT_KIND, f"EXPLAIN of {explained.DESCRIPTOR.name}")
    if (found.writers or found.moves_sequence) and any(_runs(inner(option)) for option in top.options):
        found.refuse(Reason.EXPLAIN_RUNS_WRITE)


def _runs(option: pg.DefElem) -> bool:
    """True if an option of EXPLAIN means that the statement is run: ANALYZE, unless it is plainly off."""
    if option.defname != "analyze":
        return False
    argument = inner(option.arg) if option.HasField("arg") else None
    if isinstance(argument, pg.String):
        return str(argument.sval).lower() not in _NOT
    if isinstance(argument, pg.Integer):
        return bool(argument.ival)
    if isinstance(argument, pg.Boolean):
        return bool(argument.boolval)
    return True


def _verdict(found: Findings, top: Any, kind: Kind, text: str) -> Verdict:
    writes = kind is not Kind.EXPLAIN and (found.writers > 0 or found.moves_sequence)
    top_writes = isinstance(top, (pg.InsertStmt, pg.UpdateStmt, pg.DeleteStmt))
    return Verdict(
        reason=Reason.ALLOWED,
        sql_class=SqlClass.WRITE if writes else SqlClass.READ,
        kind=kind,
        text=text,
        tables=tuple(found.tables),
        targets=tuple(found.targets),
        columns=tuple(found.columns),
        functions=tuple(found.functions),
        operators=tuple(found.operators),
        types=tuple(found.types),
        parameters=found.parameters,
        writes_inside=found.writers > int(top_writes) and kind is not Kind.EXPLAIN,
        returns_rows=not top_writes or top.HasField("returning_clause"),
        previewable=found.repeatable,
    )
