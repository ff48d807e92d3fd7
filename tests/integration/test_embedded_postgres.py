"""The embedded Postgres as a child of the tests, and of parents that die."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from conductor_ai.embedded.children import Account, unprivileged
from conductor_ai.embedded.cluster import program_source
from conductor_ai.embedded.guard import start_of
from conductor_ai.embedded.places import program_for, reachable
from conductor_ai.embedded.postgres import Durability, EmbeddedPostgres
from conductor_ai.embedded.shop import LEDGER_SCHEMA, ensure_shop
from conductor_ai.errors import ConfigurationError
from tests.fixtures_servers import wait_until

NOBODY = Account(65534, 65534)

PARENT = """
import asyncio, pathlib, sys
from conductor_ai.embedded.postgres import EmbeddedPostgres
async def main():
    server = EmbeddedPostgres(pathlib.Path(sys.argv[1]))
    await server.start()
    connection = await server.connect()
    print(server.child.pid, await connection.fetchval("SELECT pg_backend_pid()"), flush=True)
    await connection.execute("SELECT pg_sleep(600)")
asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users can reach, which pytest's own temporary ones are not."""
    path = Path(tempfile.mkdtemp(prefix="conductor-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server with the demo shop."""
    async with EmbeddedPostgres(tmp_path_factory.mktemp("shop") / "pg", durability=Durability.THROWAWAY) as server:
        await ensure_shop(server)
        yield server


async def one(url: str, query: str = "SELECT 1") -> object:
    """The first value of a query."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_it_starts_keeps_its_data_and_starts_again_quickly(folder: Path) -> None:
    """What was committed is there after a restart, which takes well under a second."""
    async with EmbeddedPostgres(folder / "pg") as server:
        await one(server.url, "CREATE TABLE kept AS SELECT 42 AS n")
        assert server.child is not None
        assert Path(f"/proc/{server.child.pid}").stat().st_uid != 0
    began = time.monotonic()
    async with EmbeddedPostgres(folder / "pg") as server:
        warm = time.monotonic() - began
        assert await one(server.url, "SELECT n FROM kept") == 42
    assert warm < 2


async def test_a_password_is_needed_and_kept_private(folder: Path) -> None:
    """Without the password nobody comes in over TCP; the file that holds it is for its owner alone."""
    async with EmbeddedPostgres(folder / "pg", durability=Durability.THROWAWAY) as server:
        wrong = server.url.replace(server.passwords.conductor, "wrong")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await one(wrong)
        modes = {path.stat().st_mode & 0o777 for path in folder.rglob("passwords.json")}
        assert modes == {0o600}
        assert server.socket_dir is not None
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700


async def test_fresh_databases_are_empty_and_go_away(folder: Path) -> None:
    """Each call makes another database, which can be dropped while somebody is connected."""
    async with EmbeddedPostgres(folder / "pg", durability=Durability.THROWAWAY) as server:
        first, second = await server.create_database(), await server.create_database("named")
        assert first != second
        assert await one(second, "SELECT current_database()") == "named"
        connection = await asyncpg.connect(second)
        await server.drop_database("named")
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await one(second)
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=1)


async def test_nothing_outlives_a_killed_parent(folder: Path) -> None:
    """SIGKILL of the parent ends the server and a backend in the middle of a query, and the next start recovers."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(folder / "pg")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        line = await asyncio.to_thread(parent.stdout.readline)
        pids = [int(word) for word in line.split()]
        assert all(start_of(pid) is not None for pid in pids)
        parent.kill()

    async def gone() -> bool:
        return all(start_of(pid) is None for pid in pids)

    await wait_until(gone, "server and backend to end")
    async with EmbeddedPostgres(folder / "pg") as server:
        assert await one(server.url) == 1


async def test_a_killed_server_starts_again_on_its_port(folder: Path) -> None:
    """After SIGKILL of the server alone the same object brings it back where clients look for it."""
    async with EmbeddedPostgres(folder / "pg") as server:
        assert server.child is not None
        url, child = server.url, server.child
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        await server.start()
        assert server.url == url
        assert await one(url) == 1


async def test_a_stale_pid_file_is_no_obstacle(folder: Path) -> None:
    """A pid file with the number of a live process of the same user, which makes Postgres itself refuse."""
    async with EmbeddedPostgres(folder / "pg") as server:
        assert server.child is not None
    account = unprivileged()
    user, group = (account.uid, account.gid) if account else (None, None)
    (cluster,) = folder.rglob("cluster")
    with subprocess.Popen(["/bin/sleep", "60"], user=user, group=group, extra_groups=[] if account else None) as other:
        try:
            (cluster / "postmaster.pid").write_text(f"{other.pid}\n{cluster}\n1\n5432\n/tmp\n127.0.0.1\n0 0\nready\n")
            async with EmbeddedPostgres(folder / "pg") as server:
                assert await one(server.url) == 1
            assert other.poll() is None
        finally:
            other.kill()


async def test_a_cluster_cut_off_in_the_making_is_made_again(folder: Path) -> None:
    """What a killed initdb leaves has another name and is thrown away."""
    (folder / "pg" / "home" / "cluster-in-the-making" / "base").mkdir(parents=True)
    (folder / "pg").chmod(0o711)
    async with EmbeddedPostgres(folder / "pg", durability=Durability.THROWAWAY) as server:
        assert await one(server.url) == 1


async def test_two_servers_on_one_directory_are_refused(folder: Path) -> None:
    """The second says so and does not touch the first."""
    async with EmbeddedPostgres(folder / "pg", durability=Durability.THROWAWAY) as server:
        with pytest.raises(ConfigurationError, match="Another process runs a Postgres"):
            await EmbeddedPostgres(folder / "pg").start()
        assert await one(server.url) == 1


async def test_data_of_another_major_version_is_refused(folder: Path) -> None:
    """The sentence names both versions."""
    async with EmbeddedPostgres(folder / "pg"):
        pass
    (version,) = folder.rglob("cluster/PG_VERSION")
    version.write_text("12\n")
    with pytest.raises(ConfigurationError, match="written by Postgres 12"):
        async with EmbeddedPostgres(folder / "pg"):
            pass


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories that the server's user cannot reach")
async def test_root_with_a_closed_directory_gets_a_place_elsewhere(folder: Path) -> None:
    """Data below a 0700 directory of root goes where the user nobody can reach it, and is removed when throwaway."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    async with EmbeddedPostgres(closed / "pg", durability=Durability.THROWAWAY) as server:
        elsewhere = Path((closed / "pg" / "home-elsewhere").read_text().strip())
        assert (elsewhere / "cluster").is_dir()
        assert elsewhere.stat().st_mode & 0o777 == 0o700
        assert await one(server.url) == 1
    assert not elsewhere.exists()


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes who runs the programs")
def test_programs_that_cannot_be_reached_are_copied(folder: Path) -> None:
    """A copy is made once, complete enough to run, where the server's user can reach it."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    source, version = program_source()
    (closed / "pginstall").symlink_to(source)
    assert program_for(source, version, None) == source
    hidden = closed / "real"
    shutil.copytree(source / "bin", hidden / "bin", copy_function=os.link)
    shutil.copytree(source / "share", hidden / "share")
    (hidden / "lib").mkdir()
    copy = program_for(hidden, version, NOBODY, system_dir=folder / "system")
    assert copy.parent == folder / "system"
    assert reachable(copy / "bin" / "postgres", NOBODY)
    assert program_for(hidden, version, NOBODY, system_dir=folder / "system") == copy
    shown = subprocess.run([copy / "bin" / "postgres", "--version"], user="nobody", capture_output=True, check=True)
    assert b"PostgreSQL" in shown.stdout


async def test_a_long_path_is_no_obstacle_for_the_socket(folder: Path) -> None:
    """The socket moves to a short private directory, which goes away with the server."""
    deep = folder / ("x" * 120)
    deep.mkdir(mode=0o711)
    async with EmbeddedPostgres(deep / "pg", durability=Durability.THROWAWAY) as server:
        assert server.socket_dir is not None
        socket_dir = server.socket_dir
        assert len(str(socket_dir)) < 60
        assert socket_dir.stat().st_mode & 0o777 == 0o700
    assert not socket_dir.exists()


async def test_the_shop_is_made_once_and_always_the_same(folder: Path) -> None:
    """Some thousand rows with the same content in every shop; a second call changes nothing."""
    digest = "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders AS o"
    sums = "SELECT bool_and(total_eur = (SELECT sum(quantity * unit_price_eur) FROM order_items WHERE order_id = id))"
    digests = set()
    for name in ("one", "two"):
        async with EmbeddedPostgres(folder / name, durability=Durability.THROWAWAY) as server:
            url = await ensure_shop(server)
            assert await ensure_shop(server) == url
            digests.add(await one(server.url_for("shop"), digest))
            assert await one(server.url_for("shop"), f"{sums} FROM orders") is True
            assert await one(server.url_for("shop"), "SELECT count(*) FROM orders") == 3000
    assert len(digests) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE own ()",
        "CREATE TEMP TABLE own ()",
        "CREATE SCHEMA own",
        "TRUNCATE orders",
        "DROP TABLE orders",
        "ALTER TABLE orders ADD own int",
        f"CREATE TABLE {LEDGER_SCHEMA}.own ()",
        f"SELECT * FROM {LEDGER_SCHEMA}.ledger",
        "SELECT lo_create(0)",
        "SELECT * FROM pg_authid",
        "COPY orders TO PROGRAM 'true'",
        "SET ROLE conductor",
        "SET ROLE shop_owner",
    ],
)
async def test_the_agent_has_rows_and_nothing_else(shop: EmbeddedPostgres, statement: str) -> None:
    """Under the agent's role nothing can be made, dropped or seen beside the shop's rows."""
    connection = await asyncpg.connect(shop.url_for("shop", "shop_login"))
    try:
        await connection.execute("SET ROLE shop_agent")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_agent_reads_and_writes_rows(shop: EmbeddedPostgres) -> None:
    """SELECT, INSERT, UPDATE and DELETE work under the agent's role, with ids made by the database."""
    connection = await asyncpg.connect(shop.url_for("shop", "shop_login"))
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL ROLE shop_agent")
            new = await connection.fetchval(
                "INSERT INTO orders (customer_id, status, ordered_at) VALUES (1, 'pending', now()) RETURNING id"
            )
            assert new == 3001
            assert await connection.execute("UPDATE orders SET status = 'paid' WHERE id = $1", new) == "UPDATE 1"
            assert await connection.execute("DELETE FROM orders WHERE id = $1", new) == "DELETE 1"
    finally:
        await connection.close()


async def test_the_login_keeps_a_ledger_and_stays_out_of_the_store(shop: EmbeddedPostgres) -> None:
    """The login owns the ledger's schema; the store's database does not let it in."""
    url = shop.url_for("shop", "shop_login")
    await one(url, f"CREATE TABLE {LEDGER_SCHEMA}.ledger (call_id text PRIMARY KEY)")
    assert await one(url, f"SELECT count(*) FROM {LEDGER_SCHEMA}.ledger") == 0
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await one(shop.url_for("conductor", "shop_login"))
