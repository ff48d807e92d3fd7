"""What only the target's own catalog knows: functions and operators that somebody defined there."""

from collections.abc import Iterable
from dataclasses import dataclass

from activities.sql.connection import Connection
from activities.sql.functions import HARMLESS_VOLATILE, SEQUENCE_WRITERS, known_quiet
from activities.sql.reasons import Reason
from activities.sql.verdict import Verdict

_FUNCTIONS = """
SELECT n.nspname AS schema, p.proname AS name,
       p.pronargs - p.pronargdefaults <= 1 AND coalesce(t.typtype IN ('c', 'p'), false) AS takes_row
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
WHERE p.proname = ANY($1::text[]) AND p.provolatile = 'v'
"""
_OPERATORS = """
SELECT o.oprname AS name FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
WHERE o.oprname = ANY($1::text[]) AND p.provolatile = 'v' LIMIT 1
"""


@dataclass(frozen=True)
class VolatileFunction:
    """A function of the target that may change something."""

    schema: str
    name: str
    takes_row: bool
    """True if it can be called as `row.name`, which looks like a column."""


def hidden_effect(verdict: Verdict, volatile: Iterable[VolatileFunction], path: tuple[str, ...]) -> str | None:
    """The first function of the statement that may be a volatile one, or None. Pure.

    A name without a schema may mean any function of that name in the search path, whatever its arguments.
    """
    visible = {"pg_catalog", *path}
    found = list(volatile)
    for used in verdict.functions:
        for function in found:
            if function.name != used.name:
                continue
            if function.schema == "pg_catalog" and (
                known_quiet("", used.name) or used.name in HARMLESS_VOLATILE | SEQUENCE_WRITERS
            ):
                continue
            if used.schema_name == function.schema or (not used.schema_name and function.schema in visible):
                return str(used)
    named = set(verdict.columns)
    return next((f.name for f in found if f.takes_row and f.schema in path and f.name in named), None)


async def look_up(connection: Connection, verdict: Verdict, path: tuple[str, ...]) -> tuple[Reason, str] | None:
    """Ask the target about every function and operator of the statement; the reason to refuse it, or None."""
    names = sorted({function.name for function in verdict.functions} | {c for c in verdict.columns if c != "*"})
    if names:
        rows = await connection.fetch(_FUNCTIONS, names)
        found = [VolatileFunction(row["schema"], row["name"], row["takes_row"]) for row in rows]
        hidden = hidden_effect(verdict, found, path)
        if hidden is not None:
            return Reason.FUNCTION_VOLATILE, hidden
    if verdict.operators:
        operator = await connection.fetchval(_OPERATORS, list(verdict.operators))
        if operator is not None:
            return Reason.FUNCTION_VOLATILE, f"operator {operator}"
    return None
