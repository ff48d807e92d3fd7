"""Tables and views by the name that a statement gives them."""

from collections.abc import Sequence

from activities.sql.connection import Connection
from activities.sql.verdict import Relation

_RESOLVE = """
SELECT found.oid FROM pg_catalog.unnest($1::text[]) AS n(name)
CROSS JOIN LATERAL (SELECT pg_catalog.to_regclass(n.name)::oid AS oid) AS found WHERE found.oid IS NOT NULL
"""


async def oids(connection: Connection, relations: Sequence[Relation]) -> list[int]:
    """The oids of tables as the statement would find them; those that do not exist are left out."""
    if not relations:
        return []
    parts = [
        (relation.schema_name, relation.name) if relation.schema_name else (relation.name,) for relation in relations
    ]
    names = [".".join('"' + part.replace('"', '""') + '"' for part in path) for path in parts]
    return [row["oid"] for row in await connection.fetch(_RESOLVE, names)]
