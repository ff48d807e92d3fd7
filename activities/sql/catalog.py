"""What only the target's own catalog knows: functions, operators, casts and views that somebody defined there.

Nothing of this is needed for safety of the data (reads run in a READ ONLY transaction under a role of their own): it
keeps a statement that does more than it says away from a person's inbox.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from activities.sql.classify import classify
from activities.sql.connection import Connection
from activities.sql.functions import HARMLESS_VOLATILE, SEQUENCE_WRITERS, known_quiet
from activities.sql.reasons import Reason
from activities.sql.relations import oids
from activities.sql.verdict import Verdict

_FUNCTIONS = """
SELECT n.nspname AS schema, p.proname AS name,
       p.pronargs - p.pronargdefaults <= 1 AND coalesce(t.typtype IN ('c', 'p'), false) AS takes_row
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
WHERE p.proname = ANY($1::text[]) AND (p.provolatile = 'v' OR EXISTS (
    -- What an aggregate is made of, and what the defaults of parameters call.
    SELECT 1 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc f ON f.oid = d.refobjid AND f.provolatile = 'v'
    WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_catalog.pg_proc'::regclass
))
"""
_OPERATORS = """
SELECT o.oprname AS name FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
WHERE o.oprname = ANY($1::text[]) AND p.provolatile = 'v' LIMIT 1
"""
_TYPES = """
WITH RECURSIVE written(oid) AS (
    SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typname = ANY($1::text[])
    UNION SELECT x.oid FROM written w JOIN pg_catalog.pg_type t ON t.oid = w.oid CROSS JOIN LATERAL (
        SELECT pg_catalog.unnest(ARRAY[t.typelem, t.typbasetype])
        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND t.typrelid <> 0
    ) AS x(oid) WHERE x.oid <> 0
), named(oid) AS (
    SELECT oid FROM written
    UNION SELECT pg_catalog.unnest(ARRAY[t.oid, t.typelem]) FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attrelid = ANY($2::oid[])
)
SELECT pg_catalog.format('cast from %s to %s', c.castsource::regtype, c.casttarget::regtype) AS what
FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc AND p.provolatile = 'v'
JOIN pg_catalog.pg_type s ON s.oid = c.castsource JOIN pg_catalog.pg_type t ON t.oid = c.casttarget
WHERE (s.typnamespace <> 'pg_catalog'::regnamespace AND s.oid IN (SELECT oid FROM named))
   OR (t.typnamespace <> 'pg_catalog'::regnamespace AND t.oid IN (SELECT oid FROM named))
   -- Somebody's cast between two types of the server's own.
   OR (s.typnamespace = t.typnamespace AND t.typnamespace = 'pg_catalog'::regnamespace AND t.oid IN (SELECT oid FROM written))
UNION ALL
SELECT pg_catalog.format('check of %s', t.oid::regtype) FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_constraint k ON k.contypid = t.oid
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::regclass AND d.objid = k.oid
    AND d.refclassid = 'pg_catalog.pg_proc'::regclass
JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid AND p.provolatile = 'v'
WHERE t.oid IN (SELECT oid FROM written)
UNION ALL
SELECT pg_catalog.format('comparison of %s', c.opcintype::regtype) FROM pg_catalog.pg_opclass c
JOIN pg_catalog.pg_amproc f ON f.amprocfamily = c.opcfamily
JOIN pg_catalog.pg_proc p ON p.oid = f.amproc AND p.provolatile = 'v'
WHERE c.opcintype IN (SELECT oid FROM named)
LIMIT 1
"""
_VIEWS = """
WITH RECURSIVE reached(oid) AS (
    SELECT o.oid FROM pg_catalog.unnest($1::oid[]) AS o(oid)
    UNION
    SELECT d.refobjid FROM reached r
    JOIN pg_catalog.pg_class c ON c.oid = r.oid AND c.relkind = 'v'
        AND c.relnamespace <> ALL (ARRAY['pg_catalog'::regnamespace, 'information_schema'::regnamespace]::oid[])
    JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_catalog.pg_class'::regclass
)
SELECT c.oid::regclass::text AS name, pg_catalog.pg_get_viewdef(c.oid) AS text
FROM reached r JOIN pg_catalog.pg_class c ON c.oid = r.oid AND c.relkind = 'v'
    AND c.relnamespace <> ALL (ARRAY['pg_catalog'::regnamespace, 'information_schema'::regnamespace]::oid[])
"""
_ALSO_IN_VIEWS = frozenset({Reason.LOCKING, Reason.LEDGER, Reason.TOO_LONG, Reason.TOO_COMPLEX, Reason.SYNTAX})
"""Refused in a view, too, besides functions: these, and what cannot be read. What else it holds is its owner's choice."""


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
    """Ask the target about everything that the statement uses; the reason to refuse it, or None."""
    tables = await oids(connection, verdict.tables)
    for row in await connection.fetch(_VIEWS, tables) if tables else ():
        inside = classify(row["text"], of_view=True)
        where = f"in view {row['name']}"
        if inside.reason in _ALSO_IN_VIEWS or inside.reason.value.startswith("function_"):
            return inside.reason, f"{inside.detail} {where}".strip()
        hidden = await _uses(connection, inside, path, await oids(connection, inside.tables))
        if hidden is not None:
            return Reason.FUNCTION_VOLATILE, f"{hidden} {where}"
    hidden = await _uses(connection, verdict, path, tables)
    return (Reason.FUNCTION_VOLATILE, hidden) if hidden is not None else None


async def _uses(connection: Connection, verdict: Verdict, path: tuple[str, ...], tables: Sequence[int]) -> str | None:
    """The first volatile thing that a text uses."""
    functions = {function.name for function in verdict.functions}
    names = sorted(functions | {column for column in verdict.columns if column != "*"})
    if names:
        rows = await connection.fetch(_FUNCTIONS, names)
        found = [VolatileFunction(row["schema"], row["name"], row["takes_row"]) for row in rows]
        hidden = hidden_effect(verdict, found, path)
        if hidden is not None:
            return hidden
    if verdict.operators:
        operator = await connection.fetchval(_OPERATORS, list(verdict.operators))
        if operator is not None:
            return f"operator {operator}"
    types = sorted(functions.union(verdict.types))  # `money(1)` is a cast if there is no function of that name
    if types or tables:
        conversion: str | None = await connection.fetchval(_TYPES, types, list(tables))
        return conversion
    return None
