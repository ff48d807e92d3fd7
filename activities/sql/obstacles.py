"""Why a write cannot be tried out: what would happen elsewhere, or not be undone by a rollback."""

from activities.sql.connection import Connection
from activities.sql.verdict import Relation, Verdict

_REACHED = """
WITH RECURSIVE reached(oid) AS (
    SELECT o.oid FROM pg_catalog.unnest($1::oid[]) AS o(oid)
    UNION
    SELECT next.oid FROM reached r CROSS JOIN LATERAL (
        SELECT c.conrelid AS oid FROM pg_catalog.pg_constraint c
        WHERE c.contype = 'f' AND c.confrelid = r.oid AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd'))
        UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = r.oid
        UNION ALL SELECT d.refobjid FROM pg_catalog.pg_rewrite w
            JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_catalog.pg_class'::regclass WHERE w.ev_class = r.oid
    ) AS next
)
SELECT c.oid::regclass::text AS name, c.relkind = 'f' AS is_foreign,
    EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D')
        AS triggers,
    EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1') AS rules,
    EXISTS (
        SELECT 1 FROM pg_catalog.pg_attrdef a
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = a.oid
            AND d.refclassid = 'pg_catalog.pg_proc'::regclass
        JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
        WHERE a.adrelid = c.oid AND p.provolatile = 'v' AND p.pronamespace <> 'pg_catalog'::regnamespace
    ) AS defaults
FROM reached r JOIN pg_catalog.pg_class c ON c.oid = r.oid
"""
_RESOLVE = "SELECT pg_catalog.to_regclass($1)::oid"
_WORDS = (
    ("is_foreign", "{name} is a foreign table"),
    ("triggers", "{name} has triggers"),
    ("rules", "{name} has rules"),
    ("defaults", "{name} has defaults that call volatile functions"),
)


async def oids(connection: Connection, relations: tuple[Relation, ...]) -> list[int]:
    """The oids of tables as the statement would find them; those that do not exist are left out."""
    found = []
    for relation in relations:
        parts = [relation.schema_name, relation.name] if relation.schema_name else [relation.name]
        name = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
        oid = await connection.fetchval(_RESOLVE, name)
        if oid is not None:
            found.append(oid)
    return found


async def in_the_way(connection: Connection, verdict: Verdict) -> str | None:
    """Half a sentence that says why the statement is not tried out, or None."""
    if not verdict.previewable:
        return "the statement calls volatile functions, whose effect a rollback does not undo or repeat"
    targets = await oids(connection, verdict.targets)
    for row in await connection.fetch(_REACHED, targets):
        for column, words in _WORDS:
            if row[column]:
                return words.format(name=row["name"])
    for row in await connection.fetch(_REACHED, await oids(connection, verdict.tables)):
        if row["is_foreign"]:
            return f"{row['name']} is a foreign table"
    return None
