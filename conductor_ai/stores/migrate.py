"""Numbered SQL migrations, each applied once, under one advisory lock that only lives as long as its transaction."""

import re
from importlib import resources

import asyncpg

from conductor_ai.errors import ConfigurationError
from conductor_ai.stores.postgres import Database

LOCK = 0x636F6E64
"""An arbitrary number of ours: two migrations at once wait for each other."""

PATIENCE_SECONDS = 600
"""A migration may take longer than any statement that somebody waits for, and so may one that waits for its turn."""


def migrations() -> list[tuple[int, str, str]]:
    """All migrations of this version: number, name, SQL; in order."""
    files = resources.files("conductor_ai.stores.migrations").iterdir()
    named = [(re.fullmatch(r"(\d{4})_([a-z0-9_]+)\.sql", entry.name), entry) for entry in files]
    return sorted((int(match[1]), match[2], entry.read_text(encoding="utf-8")) for match, entry in named if match)


async def migrate(database: Database) -> list[str]:
    """Bring the schema `conductor` up to this version. Returns the names of what was applied.

    Raises:
        ConfigurationError: the schema is newer than this program, or the login may not create it.
    """
    applied: list[str] = []
    known = migrations()
    try:
        async with database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=PATIENCE_SECONDS)
            await connection.execute("CREATE SCHEMA IF NOT EXISTS conductor")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS conductor.migrations "
                "(number integer PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
            done = {row["number"] for row in await connection.fetch("SELECT number FROM conductor.migrations")}
            if newer := done - {number for number, _, _ in known}:
                raise ConfigurationError(
                    f"The database has migration {max(newer)}, which this version of Conductor does not know. Start the "
                    "newer version, or restore a backup from before the upgrade."
                )
            for number, name, sql in known:
                if number not in done:
                    await connection.execute(sql, timeout=PATIENCE_SECONDS)
                    await connection.execute(
                        "INSERT INTO conductor.migrations (number, name) VALUES ($1, $2)", number, name
                    )
                    applied.append(f"{number:04} {name}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            "The database login may not create the schema `conductor`. Grant it CREATE on the database, or run "
            "`conductor migrate` once with a login that has it."
        ) from error
    return applied
