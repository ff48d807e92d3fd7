"""The transaction that a statement runs in: its settings and limits, and whom it runs as."""

from dataclasses import dataclass
from typing import Literal

import asyncpg

from activities.sql.connection import Connection, mark_of

LOCK_SECONDS = 5.0
READ_COMMITTED: Literal["read_committed"] = "read_committed"


class RoleUnusable(Exception):
    """The login cannot become the role: a mistake in the set-up that no retry mends."""


def quoted(name: str) -> str:
    """An identifier as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Limits:
    """How long a statement may take, as whom it runs, and where it finds its names."""

    timeout_seconds: float
    role: str | None
    """None: as the login itself."""
    search_path: tuple[str, ...] = ("public",)

    def settings(self, seconds: float | None = None, lock_seconds: float = LOCK_SECONDS) -> str:
        """SET LOCAL for everything that a database or a role could have preset otherwise.

        `standard_conforming_strings` has to be on, or the server would read literals differently from the gate.
        """
        limit = seconds or self.timeout_seconds
        path = ", ".join(["pg_catalog", *map(quoted, self.search_path), "pg_temp"])
        values = {
            "statement_timeout": str(max(1, int(limit * 1000))),
            "lock_timeout": str(max(1, int(min(limit, lock_seconds) * 1000))),
            "idle_in_transaction_session_timeout": str(int((limit + 10) * 1000)),
            "search_path": path,
            "standard_conforming_strings": "on",
            "transform_null_equals": "off",
            "array_nulls": "on",
            "quote_all_identifiers": "off",
            "DateStyle": "ISO, YMD",
            "IntervalStyle": "iso_8601",
            "TimeZone": "'UTC'",
            "bytea_output": "hex",
            "extra_float_digits": "1",
            "xmloption": "content",
            "row_security": "on",
            "client_min_messages": "error",
            "synchronous_commit": "on",
        }
        return "".join(f"SET LOCAL {name} TO {value};" for name, value in values.items())

    async def enter(
        self, connection: Connection, seconds: float | None = None, lock_seconds: float = LOCK_SECONDS
    ) -> None:
        """Apply the limits to the transaction that is open. Still as the login."""
        name = f"SET LOCAL application_name TO '{mark_of(connection)}';"
        await connection.execute(name + self.settings(seconds, lock_seconds))

    async def become_role(self, connection: Connection) -> None:
        """From here on the rights are those of the role.

        Raises:
            RoleUnusable: there is no such role, or the login is no member of it.
        """
        if self.role is None:
            return
        try:
            await connection.execute(f"SET LOCAL ROLE {quoted(self.role)}")
        except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError) as error:
            raise RoleUnusable from error

    async def become_login(self, connection: Connection) -> None:
        """Back to the rights of the login."""
        if self.role is not None:
            await connection.execute("SET LOCAL ROLE NONE")
