"""How many rows a transaction has changed so far, by table, cascades included."""

from activities.sql.connection import Connection
from activities.sql.findings import LEDGER_SCHEMA
from conductor_ai.contracts.base import Contract

_COUNTS = f"""
SELECT schemaname, relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_xact_user_tables
WHERE schemaname <> '{LEDGER_SCHEMA}' AND n_tup_ins + n_tup_upd + n_tup_del > 0
ORDER BY schemaname, relname
"""  # noqa: S608 - only our own constant


class Change(Contract):
    """What happened to one table, in rows."""

    table: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __str__(self) -> str:
        words = (("inserted", self.inserted), ("updated", self.updated), ("deleted", self.deleted))
        return f"{self.table}: " + ", ".join(f"{count} {word}" for word, count in words if count)

    @property
    def rows(self) -> int:
        """All of them together."""
        return self.inserted + self.updated + self.deleted


class Effects(Contract):
    """What a statement changed. Stored with an approval, it is what a later run is held against."""

    changes: tuple[Change, ...] = ()

    @property
    def rows(self) -> int:
        """Rows changed in all tables."""
        return sum(change.rows for change in self.changes)

    def since(self, before: "Effects") -> "Effects":
        """What was added after `before` was taken, in the same transaction.

        The server's counters may still hold rows of earlier transactions of the same connection.
        """
        earlier = {change.table: change for change in before.changes}
        found = []
        for change in self.changes:
            base = earlier.get(change.table, Change(table=change.table))
            difference = Change(
                table=change.table,
                inserted=change.inserted - base.inserted,
                updated=change.updated - base.updated,
                deleted=change.deleted - base.deleted,
            )
            if difference.rows:
                found.append(difference)
        return Effects(changes=tuple(found))

    def exceeds(self, approved: "Effects", tolerance: int) -> bool:
        """True if this touches more rows than were approved, in all or in a table that was not touched at all then."""
        known = {change.table for change in approved.changes}
        elsewhere = any(change.table not in known for change in self.changes)
        return self.rows > approved.rows + tolerance or (elsewhere and tolerance == 0)


async def count(connection: Connection) -> Effects:
    """The counters of this connection, right now."""
    rows = await connection.fetch(_COUNTS)
    return Effects(
        changes=tuple(
            Change(
                table=f"{row['schemaname']}.{row['relname']}",
                inserted=row["n_tup_ins"],
                updated=row["n_tup_upd"],
                deleted=row["n_tup_del"],
            )
            for row in rows
        )
    )
