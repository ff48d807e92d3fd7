"""What a person is shown before deciding: exact where it can be, with its reason where it cannot, and without a trace."""

import asyncpg
import pytest

from activities.sql.target import SqlTarget
from conductor_ai.contracts.tools import Consequence
from tests.fixtures_sql import Shop


def shown(consequence: Consequence, label: str) -> str:
    """One line of the evidence."""
    return next(column.value for column in consequence.evidence if column.label == label)


async def snapshot(admin: "asyncpg.Connection[asyncpg.Record]") -> list[object]:
    """Everything that a preview could have changed."""
    return [
        await admin.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
        for table in ("customers", "orders", "items", "archive")
    ]


async def test_a_read_shows_tables_columns_and_the_estimate(sql_target: SqlTarget) -> None:
    """A read is low risk and is not run."""
    found = await sql_target.preview("SELECT name FROM customers WHERE id = $1", [1])
    assert (found.risk, found.refused) == ("low", None)
    assert shown(found, "statement") == "SELECT"
    assert shown(found, "tables") == "customers"
    assert set(shown(found, "columns").split(", ")) == {"name", "id"}
    assert shown(found, "estimate").startswith("about 1 row, ")


async def test_an_update_shows_the_exact_rows_before_and_after(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Row count and a sample, the same rows before and after; parameters of SET and WHERE both count; nothing stays."""
    before = await snapshot(sql_admin)
    found = await sql_target.preview("UPDATE orders SET status = $1 WHERE id BETWEEN $2 AND $3", ["done", 3, 14])
    assert isinstance(found.data, dict)
    assert found.data["rows"] == 12
    assert shown(found, "effect").startswith("public.orders: 12 updated")
    sample = found.data["sample"]
    assert isinstance(sample, dict)
    olds, news = sample["before"], sample["after"]
    assert isinstance(olds, list)
    assert isinstance(news, list)
    assert [row["id"] for row in olds if isinstance(row, dict)] == [3, 4, 5, 6, 7]
    assert [row["id"] for row in news if isinstance(row, dict)] == [3, 4, 5, 6, 7]
    assert {row["status"] for row in news if isinstance(row, dict)} == {"done"}
    assert await snapshot(sql_admin) == before


async def test_a_delete_shows_what_cascades(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Rows that foreign keys take along are counted, and a delete is high risk."""
    before = await snapshot(sql_admin)
    found = await sql_target.preview("DELETE FROM customers WHERE id IN (1, 2)", [])
    assert found.risk == "high"
    effect = shown(found, "effect")
    assert "public.customers: 2 deleted" in effect
    assert "public.orders: 2 deleted" in effect
    assert "public.items: 4 deleted" in effect
    assert await snapshot(sql_admin) == before


async def test_an_insert_shows_the_new_rows(sql_target: SqlTarget) -> None:
    """Defaults are filled in as they will be."""
    found = await sql_target.preview("INSERT INTO orders (customer_id, total) VALUES ($1, $2)", [1, "9.90"])
    assert isinstance(found.data, dict)
    assert '"status": "open"' in shown(found, "rows after")
    assert '"total": "9.90"' in shown(found, "rows after")


async def test_a_write_in_a_with_query_is_counted(sql_target: SqlTarget) -> None:
    """Every place that writes is in the effect, though no sample is shown."""
    query = "WITH gone AS (DELETE FROM orders WHERE id = 3 RETURNING *) INSERT INTO archive SELECT * FROM gone"
    found = await sql_target.preview(query, [])
    effect = shown(found, "effect")
    assert "public.archive: 1 inserted" in effect
    assert "public.orders: 1 deleted" in effect
    assert "more than one place" in shown(found, "sample")


@pytest.mark.parametrize(
    ("setup", "query", "why"),
    [
        (
            "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
            "CREATE TRIGGER t BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION t()",
            "UPDATE orders SET note = 'x' WHERE id = 1",
            "triggers",
        ),
        (
            "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;"
            "CREATE TRIGGER t AFTER DELETE ON items FOR EACH ROW EXECUTE FUNCTION t()",
            "DELETE FROM customers WHERE id = 1",
            "triggers",
        ),
        (
            "CREATE RULE r AS ON INSERT TO orders DO ALSO NOTHING",
            "INSERT INTO orders (id) VALUES (900)",
            "rules",
        ),
        (
            "CREATE FUNCTION loud() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT 'x' $$;"
            "ALTER TABLE orders ALTER note SET DEFAULT loud()",
            "INSERT INTO orders (id) VALUES (900)",
            "volatile",
        ),
        ("SELECT 1", "SELECT nextval('tickets')", "volatile"),
        (
            "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
            "CREATE FOREIGN TABLE far (id int) SERVER s",
            "INSERT INTO archive (id) SELECT id FROM far WHERE id = 1",
            "foreign",
        ),
    ],
    ids=["trigger", "trigger behind a cascade", "rule", "default", "sequence", "foreign table"],
)
async def test_what_a_rollback_does_not_undo_is_not_run(
    sql_shop: Shop,
    sql_target: SqlTarget,
    sql_admin: "asyncpg.Connection[asyncpg.Record]",
    setup: str,
    query: str,
    why: str,
) -> None:
    """Triggers, rules, volatile defaults, sequences and foreign tables: not run, and said so."""
    await sql_admin.execute(setup)
    await sql_admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {sql_shop.role}")
    found = await sql_target.preview(query, [])
    assert found.refused is None
    lines = [column.value for column in found.evidence if "not available" in column.value]
    assert any(why in line for line in lines), found.evidence
    assert isinstance(found.data, dict)
    assert found.data["effect"] is None


@pytest.mark.parametrize("query", ["SELECT * FROM far", "SELECT * FROM through", "EXPLAIN SELECT * FROM far"])
async def test_another_server_is_not_asked_before_the_person_is(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]", query: str
) -> None:
    """Planning may already reach out to where a foreign table lives: there is no estimate, and the reason is told."""
    await sql_admin.execute(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE far (id int) SERVER s;"
        f"CREATE VIEW through AS SELECT * FROM far; GRANT SELECT ON far, through TO {sql_shop.role}"
    )
    estimate = shown(await sql_target.preview(query, []), "estimate")
    assert estimate == "not available: " + (
        "the statement reads no table" if query.startswith("EXPLAIN") else "far is a foreign table"
    )


async def test_a_statement_that_will_fail_says_so(sql_target: SqlTarget) -> None:
    """A constraint, also a deferred one, or a missing table is seen before anybody decides."""
    found = await sql_target.preview("INSERT INTO orders (customer_id) VALUES (999)", [])
    assert "foreign key" in shown(found, "effect")
    missing = await sql_target.preview("SELECT * FROM nothing", [])
    assert "does not exist" in shown(missing, "estimate")


async def test_a_role_without_the_right_to_read_gets_the_count(
    sql_shop: Shop, sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """No sample then, but the effect."""
    await sql_admin.execute(f"REVOKE SELECT ON archive FROM {sql_shop.role}")
    found = await sql_target.preview("INSERT INTO archive (id, status, total) VALUES (1, 'x', 0)", [])
    assert shown(found, "effect").startswith("public.archive: 1 inserted")
    assert "not read it" in shown(found, "sample")


async def test_a_locked_row_does_not_hold_up_the_preview(
    sql_target: SqlTarget, sql_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The trial has its own, short limits."""
    async with sql_admin.transaction():
        await sql_admin.execute("SELECT 1 FROM orders WHERE id = 1 FOR UPDATE")
        found = await sql_target.preview("UPDATE orders SET note = 'x' WHERE id = 1", [])
    assert "lock" in shown(found, "effect")


async def test_a_refused_statement_reaches_nobody(sql_target: SqlTarget) -> None:
    """The gate's verdict comes as `refused`, without asking the database."""
    found = await sql_target.preview("DELETE FROM orders", [])
    assert found.refused is not None
    assert found.refused.code == "sql_refused"
