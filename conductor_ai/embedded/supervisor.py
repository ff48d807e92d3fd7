"""Starts the parts of the stack in order, keeps them running, and ends them in the opposite order."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from conductor_ai.embedded.children import Guard, require_linux
from conductor_ai.embedded.cluster import write_private
from conductor_ai.embedded.environment import (
    Addresses,
    child_environment,
    given_redis,
    given_sql,
    given_store,
    given_temporal,
)
from conductor_ai.embedded.guard import start_of
from conductor_ai.embedded.lock import DataLock
from conductor_ai.embedded.options import DevOptions
from conductor_ai.embedded.page import EmbeddedPage
from conductor_ai.embedded.places import private_dir
from conductor_ai.embedded.ports import LOOPBACK, free_port, http_get, is_free, listens_in_session
from conductor_ai.embedded.postgres import EmbeddedPostgres
from conductor_ai.embedded.programs import Part, Program
from conductor_ai.embedded.redis import EmbeddedRedis, find_server
from conductor_ai.embedded.restarts import describe_exit, next_quick, restart_delay
from conductor_ai.embedded.runtime import Runtime, remove_runtime, write_runtime
from conductor_ai.embedded.shop import ensure_shop
from conductor_ai.embedded.temporal import EmbeddedTemporal
from conductor_ai.errors import ConfigurationError


class Supervisor:
    """One stack on one data directory."""

    def __init__(self, options: DevOptions) -> None:
        self.hurry = asyncio.Event()
        """Set it to end without patience."""
        self._options = options
        self._data_dir = options.settings.data_dir.absolute()
        self._logs = self._data_dir / "logs"
        self._lock: DataLock | None = None
        self._guard: Guard | None = None
        self._servers: list[Part] = []
        self._programs: list[Part] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._runtime: Runtime | None = None

    async def start(self) -> Runtime:
        """Starts everything and returns when the API answers.

        Raises:
            ConfigurationError: something cannot start; the sentence says what and what to do. Call `stop` all the same.
        """
        require_linux()
        private_dir(self._data_dir)
        self._lock = await DataLock.take(self._data_dir)
        remove_runtime(self._data_dir)
        port = self._api_port()
        self._guard = Guard(self._logs / "guard.log", keep_open=self._lock.descriptor)
        await self._guard.start()
        addresses = await self._start_servers(self._guard, port)
        for part in self._servers:
            self._keepers.append(asyncio.create_task(self._keep(part)))
        self._keepers.append(asyncio.create_task(self._keep_guard(self._guard)))
        await self._options.migrate(addresses.database_url)
        key_file = await self._ensure_key_file(addresses.database_url)
        await self._start_programs(self._guard, addresses)
        runtime = self._describe(addresses, key_file)
        await self._wait_ready(runtime, addresses)
        self._runtime = runtime
        self._publish()
        return self._with_pids(runtime)

    async def stop(self) -> None:
        """Ends everything: worker, API, servers, then whatever is left of any of them. Can be called at any point."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        if self._lock is not None:
            remove_runtime(self._data_dir)
        for program in self._programs:
            await program.stop(hurry=self.hurry)
        stops = (server.stop(hurry=self.hurry) for server in self._servers)
        for result in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(result, BaseException):  # The guard ends what would not stop.
                self.say(f"A server did not stop cleanly: {result}")
        if self._guard is not None:
            await self._guard.stop()
            self._guard = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def say(self, line: str) -> None:
        """Shows a line to the person; a terminal or pipe that has gone is no reason to lose the stack."""
        with suppress(OSError):
            self._options.echo(line)

    def _api_port(self) -> int:
        settings = self._options.settings
        wanted = settings.port if self._options.api_port is None else self._options.api_port
        try:
            free = is_free(settings.host, wanted)
        except OSError as error:
            raise ConfigurationError(
                f"The API cannot listen on {settings.host} port {wanted}: {error.strerror}. Set CONDUCTOR_HOST to an "
                "address of this machine and CONDUCTOR_PORT to a port of 1024 or more."
            ) from error
        if not free:
            raise ConfigurationError(
                f"Port {wanted} on {settings.host}, where the API should listen, is in use by another program. Stop "
                "that program, or choose another port with CONDUCTOR_PORT."
            )
        return wanted or free_port()

    async def _start_servers(self, guard: Guard, port: int) -> Addresses:
        settings = self._options.settings
        store, redis_url, temporal, sql = (
            given_store(settings), given_redis(settings), given_temporal(settings), given_sql(settings)
        )  # fmt: skip
        page = EmbeddedPage(log=self._logs / "page.log", guard=guard)
        postgres = redis = dev_server = None
        self._servers.append(page)
        if temporal is None:
            dev_server = EmbeddedTemporal(
                self._data_dir / "temporal", namespace=settings.temporal_namespace,
                log=self._logs / "temporal.log", guard=guard,
            )  # fmt: skip
            self._servers.append(dev_server)
        if redis_url is None:
            server = find_server(self._options.environ)
            redis = EmbeddedRedis(server=server, log=self._logs / "redis.log", guard=guard)
            self._servers.append(redis)
        if store is None or sql is None:  # With a store of the user's own, it still brings the shop for sql_query.
            postgres = EmbeddedPostgres(self._data_dir / "postgres", log=self._logs / "postgres.log", guard=guard)
            self._servers.append(postgres)
        results = await asyncio.gather(*(server.start() for server in self._servers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        shop = await ensure_shop(postgres) if postgres is not None and sql is None else None
        return Addresses(
            database_url=store or (postgres.url if postgres is not None else ""),
            redis_url=redis_url or (redis.url if redis is not None else ""),
            temporal_address=temporal or (dev_server.address if dev_server is not None else ""),
            temporal_ui_url=dev_server.ui_url if dev_server is not None else settings.temporal_ui_url,
            sql_url=sql or shop or "",
            sql_is_shop=shop is not None,
            page=page.address,
            api_host=settings.host,
            api_port=port,
        )

    async def _ensure_key_file(self, database_url: str) -> Path:
        file = self._data_dir / "api-key"
        known = file.read_text(encoding="utf-8").strip() if file.exists() else None
        key = await self._options.ensure_key(database_url, known)
        if key != known:
            write_private(file, f"{key}\n")
        return file

    async def _start_programs(self, guard: Guard, addresses: Addresses) -> None:
        options = self._options
        environ = child_environment(options.environ, options.settings, addresses, data_dir=str(self._data_dir))
        for name, command, grace in (
            ("worker", options.worker_command, options.worker_grace),
            ("api", options.api_command, options.api_grace),
        ):
            program = Program(
                name, command, environ=environ, log=self._logs / f"{name}.log", guard=guard, grace=grace
            )  # fmt: skip
            self._programs.append(program)
            await program.start()
            self._keepers.append(asyncio.create_task(self._keep(program)))

    async def _wait_ready(self, runtime: Runtime, addresses: Addresses) -> None:
        options = self._options
        until = time.monotonic() + options.ready_seconds
        waiting_for = "api"
        while time.monotonic() < until:
            if waiting_for == "api" and await self._api_answers(addresses):
                waiting_for = "worker"
            if waiting_for == "worker" and await self._worker_is_ready(runtime):
                return
            await asyncio.sleep(0.05)
        raise ConfigurationError(
            f"The {waiting_for} was not ready within {options.ready_seconds:g} seconds. Its log is "
            f"{self._logs / f'{waiting_for}.log'}."
        )

    async def _api_answers(self, addresses: Addresses) -> bool:
        child = self._programs[-1].child
        if child is None or not child.alive or not listens_in_session(addresses.api_port, child.pid):
            return False
        host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(addresses.api_host, addresses.api_host)  # noqa: S104 - compared
        return 0 < (await http_get(host, addresses.api_port, "/livez"))[0] < 500

    async def _worker_is_ready(self, runtime: Runtime) -> bool:
        child = self._programs[0].child
        if child is None or not child.alive:
            return False
        return self._options.worker_ready is None or await self._options.worker_ready(runtime)

    async def _keep(self, part: Part) -> None:
        """Starts `part` again whenever it ends, until this task is cancelled."""
        quick = 0
        began = time.monotonic()
        while True:
            child = part.child
            if child is None:
                return
            code = await child.wait()
            quick = next_quick(quick, time.monotonic() - began)
            delay = restart_delay(quick)
            self.say(f"{part.name} {describe_exit(code)}; it starts again in {delay:.1f} s ({child.log})")
            await child.stop(signal.SIGKILL, grace=0)  # What is left of its group.
            if self._guard is not None:
                self._guard.forget(child.pid)
            await asyncio.sleep(delay)
            began = time.monotonic()
            try:
                await part.start()
            except (ConfigurationError, OSError) as error:
                self.say(f"{part.name} could not start again: {error}")
            self._publish()

    async def _keep_guard(self, guard: Guard) -> None:
        while True:
            await guard.wait()
            self.say("The guard of the stack has ended; another starts.")
            await asyncio.sleep(restart_delay(0))
            await guard.start()
            self._publish()

    def _publish(self) -> None:
        if self._runtime is not None:
            write_runtime(self._with_pids(self._runtime))

    def _with_pids(self, runtime: Runtime) -> Runtime:
        pids = {part.name: part.child.pid for part in (*self._servers, *self._programs) if part.child is not None}
        pids["supervisor"] = os.getpid()
        if self._guard is not None and self._guard.pid is not None:
            pids["guard"] = self._guard.pid
        return runtime.model_copy(update={"pids": dict(sorted(pids.items()))})

    def _describe(self, addresses: Addresses, key_file: Path) -> Runtime:
        host = {"0.0.0.0": LOOPBACK, "::": "[::1]", "::1": "[::1]"}.get(addresses.api_host, addresses.api_host)  # noqa: S104
        return Runtime(
            data_dir=self._data_dir,
            supervisor_pid=os.getpid(),
            supervisor_start=start_of(os.getpid()) or 0,
            started_at=datetime.now(UTC),
            api_url=f"http://{host}:{addresses.api_port}",
            api_key_file=key_file,
            temporal_address=addresses.temporal_address,
            temporal_ui_url=addresses.temporal_ui_url,
            database_url=addresses.database_url,
            redis_url=addresses.redis_url,
            sql_url=addresses.sql_url,
            page_url=f"http://{addresses.page}/",
            log_dir=self._logs,
            pids={},
        )
