"""A step changes its session's row without touching an index: what a step costs Postgres does not grow with the indexes."""

from conductor_ai.stores.postgres import Database
from conductor_ai.stores.writing import locked
from tests.places import Place

CHANGED_BY_STEPS = frozenset(
    [
        "run_id",
        "version",
        "clock",
        "phase",
        "retry",
        "last_call_no",
        "steps",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cost_usd",
        "updated_at",
        "status",
        "started_at",
        "start_state",
        "paused",
        "awaiting_input",
        "warnings",
    ]
)
"""Columns that change while a session is at work."""


_COUNTED = """
    SELECT pg_stat_get_xact_tuples_updated(c.oid) AS updated, pg_stat_get_xact_tuples_hot_updated(c.oid) AS in_place
    FROM pg_class c WHERE c.oid = 'conductor.sessions'::regclass
"""


async def test_no_index_has_what_a_step_changes(database: Database) -> None:
    """Neither as a column nor in its condition: one such index, and every step writes an entry into all of them."""
    async with database.connection() as connection:
        columns = {
            row["attname"]
            for row in await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'conductor.sessions'::regclass AND attnum > 0"
            )
        }
        indexed = await connection.fetch(
            "SELECT i.indexrelid::regclass::text AS name, d.refobjsubid, a.attname FROM pg_index i "
            "JOIN pg_depend d ON d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid > 0 "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid "
            "WHERE i.indrelid = 'conductor.sessions'::regclass"
        )
    assert columns >= CHANGED_BY_STEPS
    assert {row["attname"] for row in indexed} >= {"org_id", "created_at", "ended_at", "reconciled_at"}
    assert not [(row["name"], row["attname"]) for row in indexed if row["attname"] in CHANGED_BY_STEPS]


async def test_changes_stay_on_the_page(database: Database) -> None:
    """The changes of one transaction, as Postgres itself counts them: all are written in place."""
    place = Place(database)
    session_id = await place.session()
    await place.answered(session_id, "run", 1)
    async with database.transaction() as connection:
        before = await connection.fetchrow(_COUNTED)
        writer = await locked(connection, session_id)
        await writer.update("steps = steps + 1, last_call_no = 2, cost_usd = cost_usd + 0.01")
        writer.event("model.answered", {"call_no": 2})
        await writer.flush()
        after = await connection.fetchrow(_COUNTED)
    assert before is not None
    assert after is not None
    assert [after[name] - before[name] for name in ("updated", "in_place")] == [2, 2]
