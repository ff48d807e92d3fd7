"""Why a write cannot be tried out: what would happen elsewhere, or not be undone by a rollback."""

from activities.sql import effects
from activities.sql.connection import Connection
from activities.sql.relations import oids
from activities.sql.verdict import Verdict

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
    (
        SELECT min(x.words) FROM (
            SELECT 'pg_catalog.pg_attrdef'::regclass AS kind, a.oid, 'defaults that call' AS words
                FROM pg_catalog.pg_attrdef a WHERE a.adrelid = c.oid
            UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, k.oid, 'checks that call'
                FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid
            UNION ALL SELECT 'pg_catalog.pg_policy'::regclass, p.oid, 'policies that call'
                FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND c.relrowsecurity
            UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, k.oid, 'columns of types whose checks call'
                FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a ON a.atttypid = k.contypid
                WHERE a.attrelid = c.oid
        ) AS x
        JOIN pg_catalog.pg_depend d ON d.classid = x.kind AND d.objid = x.oid
            AND d.refclassid = 'pg_catalog.pg_proc'::regclass
        JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid AND p.provolatile = 'v'
            AND p.pronamespace <> 'pg_catalog'::regnamespace
    ) AS calls
FROM reached r JOIN pg_catalog.pg_class c ON c.oid = r.oid
"""
_WORDS = (
    ("is_foreign", "{name} is a foreign table"),
    ("triggers", "{name} has triggers"),
    ("rules", "{name} has rules"),
)


async def in_the_way(connection: Connection, verdict: Verdict) -> str | None:
    """Half a sentence that says why the statement is not tried out, or None."""
    if not verdict.previewable:
        return "the statement calls volatile functions, whose effect a rollback does not undo or repeat"
    if not await effects.are_counted(connection):
        return "the server does not count changed rows (track_counts is off)"
    targets = await oids(connection, verdict.targets)
    for row in await connection.fetch(_REACHED, targets):
        for column, words in _WORDS:
            if row[column]:
                return words.format(name=row["name"])
        if row["calls"] is not None:
            return f"{row['name']} has {row['calls']} volatile functions"
    return await foreign(connection, verdict)


async def foreign(connection: Connection, verdict: Verdict) -> str | None:
    """Half a sentence if the statement reaches a foreign table, also through views and partitions; or None.

    Already the planner may ask another server about it, or look at a file.
    """
    for row in await connection.fetch(_REACHED, await oids(connection, verdict.tables)):
        if row["is_foreign"]:
            return f"{row['name']} is a foreign table"
    return None
