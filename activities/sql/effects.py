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

    def beyond(self, approved: "Change") -> int:
        """Rows of this change that the approved one did not have."""
        pairs = (
            (self.inserted, approved.inserted),
            (self.updated, approved.updated),
            (self.deleted, approved.deleted),
        )
        return sum(max(0, now - then) for now, then in pairs)


class Effects(Contract):
    """What a statement changed. Stored with an approval, it is what a later run is held against."""

    changes: tuple[Change, ...] = ()

    @property
    def rows(self) -> int:
        """Rows changed in all tables."""
        return sum(change.rows for change in self.changes)

    def __str__(self) -> str:
        return "; ".join(map(str, self.changes)) or "no row changes"

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
        """True if more rows than the tolerance are touched beyond what was approved.

        Counted by table and by what happens to a row: an upsert that now overwrites what it would have added, or a
        cascade that now takes along other rows, is no smaller because something else became less.
        """
        known = {change.table: change for change in approved.changes}
        beyond = sum(change.beyond(known.get(change.table, Change(table=change.table))) for change in self.changes)
        return beyond > tolerance


async def are_counted(connection: Connection) -> bool:
    """True if the server counts changed rows at all: without, every effect would look like none."""
    found: bool = await connection.fetchval("SELECT pg_catalog.current_setting('track_counts')::boolean")
    return found


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
