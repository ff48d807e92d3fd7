"""Is the target set up so that its own rights hold? Plain sentences for `conductor doctor`."""

import asyncpg

from activities.sql.connection import Connection
from activities.sql.findings import LEDGER_SCHEMA
from activities.sql.limits import quoted
from activities.sql.target import SqlTarget
from conductor_ai.errors import ToolUnavailable

_ROLES = """
SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication
FROM pg_catalog.pg_roles WHERE rolname = ANY(ARRAY[session_user::text, $1::text])
"""
_POWERS = (
    ("rolsuper", "is a superuser: no right of the database holds it back"),
    ("rolcreaterole", "may create roles"),
    ("rolcreatedb", "may create databases"),
    ("rolbypassrls", "bypasses row level security"),
    ("rolreplication", "may start replication"),
)
_FOREIGN_MEMBERSHIP = """
SELECT r.rolname FROM pg_catalog.pg_roles r
WHERE r.rolname LIKE 'pg\\_%' AND r.rolname <> 'pg_database_owner' AND pg_has_role($1, r.oid, 'MEMBER')
"""


_SEES_STORE = """
SELECT EXISTS (
    SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'conductor' AND c.relname = 'sessions' AND has_schema_privilege($1, n.oid, 'USAGE')
)
"""


async def check(target: SqlTarget) -> list[str]:
    """Every problem with login, role and ledger, each a sentence that says what to do; empty if all is well."""
    try:
        return await target.connections.use(lambda connection: _check(connection, target))
    except ToolUnavailable:
        return ["The database of sql_query cannot be reached. Check CONDUCTOR_SQL_URL and that the server is running."]


async def _check(connection: Connection, target: SqlTarget) -> list[str]:
    role = target.limits.role
    login = await connection.fetchval("SELECT session_user::text")
    rows = {row["rolname"]: row for row in await connection.fetch(_ROLES, role or login)}
    problems = [
        f"The {'login' if name == login else 'role'} {name} {words}. Use one without that."
        for name, row in rows.items()
        for column, words in _POWERS
        if row[column]
    ]
    if role is None:
        problems.append(
            "Statements run as the login itself. Set CONDUCTOR_SQL_ROLE to a role with only the rights that are needed."
        )
    elif role not in rows:
        return [*problems, f"The role {role} does not exist. Create it: CREATE ROLE {quoted(role)} NOLOGIN."]
    else:
        problems += await _check_role(connection, login, role)
    if target.keeps_ledger:
        problems += await _check_ledger(connection, role)
    return problems


async def _check_role(connection: Connection, login: str, role: str) -> list[str]:
    problems = []
    if login == role:
        problems.append(f"The role {role} is the login itself, which owns the ledger. Use a role of its own.")
    elif await connection.fetchval("SELECT pg_has_role($1, session_user, 'MEMBER')", role):
        problems.append(f"The role {role} is a member of the login {login} and so has its rights. Revoke that.")
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {quoted(role)}")
    except asyncpg.PostgresError:
        problems.append(
            f"The login {login} cannot become the role {role}. Run: GRANT {quoted(role)} TO {quoted(login)}."
        )
    powerful = [row["rolname"] for row in await connection.fetch(_FOREIGN_MEMBERSHIP, role)]
    problems += [f"The role {role} is a member of {name}. Revoke that: it reaches beyond tables." for name in powerful]
    if await connection.fetchval(_SEES_STORE, role):
        problems.append(
            f"The role {role} can see Conductor's own tables (schema conductor): models would read other sessions. Use a "
            "database of its own for sql_query, or revoke USAGE on that schema."
        )
    if await connection.fetchval("SELECT has_database_privilege($1, current_database(), 'CREATE')", role):
        problems.append(f"The role {role} may create schemas in this database. Revoke CREATE from it.")
    return problems


async def _check_ledger(connection: Connection, role: str | None) -> list[str]:
    found = await connection.fetchrow(
        "SELECT pg_get_userbyid(c.relowner) AS owner, session_user::text AS login FROM pg_catalog.pg_class c "
        "WHERE c.oid = to_regclass($1)",
        f"{LEDGER_SCHEMA}.calls",
    )
    if found is None:
        may = await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")
        if may:
            return []
        return [
            "The login may not create its ledger. Grant it CREATE on the database once, or set "
            "CONDUCTOR_SQL_LEDGER=false (then an interrupted write is reported as unknown)."
        ]
    problems = []
    if found["owner"] != found["login"]:
        problems.append(f"The ledger belongs to {found['owner']} and not to the login. Change its owner.")
    if role is not None and await connection.fetchval(
        "SELECT has_schema_privilege($1, $2, 'USAGE') OR has_table_privilege($1, $3, "
        "'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')",
        role,
        LEDGER_SCHEMA,
        f"{LEDGER_SCHEMA}.calls",
    ):
        problems.append(f"The role {role} can see the ledger. Run: REVOKE ALL ON SCHEMA {LEDGER_SCHEMA} FROM {role}.")
    return problems
