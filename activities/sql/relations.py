"""Tables and views by the name that a statement gives them."""

from collections.abc import Sequence

from activities.sql.connection import Connection
from activities.sql.verdict import Relation

MAX_DESCRIBED = 40
"""Tables that a person is shown by name."""
_RESOLVE = """
SELECT found.oid FROM pg_catalog.unnest($1::text[]) AS n(name)
CROSS JOIN LATERAL (SELECT pg_catalog.to_regclass(n.name)::oid AS oid) AS found WHERE found.oid IS NOT NULL
"""


_DESCRIBE = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind AS kind FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass($1)
"""
_KINDS = {b"v": "view", b"m": "materialized view", b"f": "foreign table", b"S": "sequence", b"c": "type"}


def _written(relation: Relation) -> str:
    parts = (relation.schema_name, relation.name) if relation.schema_name else (relation.name,)
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


async def described(connection: Connection, relations: Sequence[Relation], home: str) -> list[str]:
    """The tables as the statement names them; with what that means where a name does not say it.

    That is a table that is not in the schema `home`, and a view or foreign table, which only looks like a table.
    """
    found = []
    for relation in relations[:MAX_DESCRIBED]:
        row = await connection.fetchrow(_DESCRIBE, _written(relation))
        words = str(relation)
        if row is not None:
            kind = _KINDS.get(row["kind"])
            if not relation.schema_name and row["schema"] != home:
                words += f" ({kind or 'table'} {row['schema']}.{row['name']})"
            elif kind is not None:
                words += f" ({kind})"
        found.append(words)
    if len(relations) > MAX_DESCRIBED:
        found.append(f"and {len(relations) - MAX_DESCRIBED} more")
    return found


async def oids(connection: Connection, relations: Sequence[Relation]) -> list[int]:
    """The oids of tables as the statement would find them; those that do not exist are left out."""
    if not relations:
        return []
    return [row["oid"] for row in await connection.fetch(_RESOLVE, [_written(relation) for relation in relations])]
