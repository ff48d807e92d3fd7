"""The embedded stack, told how to start and prepare what it does not know."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

from conductor_ai.embedded.options import DevOptions
from conductor_ai.embedded.runtime import Runtime
from conductor_ai.settings import Settings
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import Tools
from conductor_ai.wiring.store import migrate_url


def _to_stdout(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what the person who typed `conductor dev` reads


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - beside the output of the command that started the stack


def _dev_options(
    settings: Settings, environ: Mapping[str, str], port: int | None, echo: Callable[[str], None]
) -> DevOptions:
    since = datetime.now(UTC)

    async def bring_up(url: str) -> None:
        await migrate_url(url)

    async def ensure_key(url: str, kept: str | None) -> str:
        database = Database(url, size=1)
        try:
            keys = Keys(database)
            if kept is not None and await keys.find(kept) is not None:
                return kept
            _, secret = await keys.create("default", "local", Role.ADMIN)
            return secret
        finally:
            await database.close()

    async def worker_ready(runtime: Runtime) -> bool:
        database = Database(runtime.database_url, size=1)
        try:
            return await Tools(database).published_since(since)
        finally:
            await database.close()

    # -P: a redis.py or docker.py in the folder where somebody types `conductor dev` is not the package of that name.
    command = (sys.executable, "-P", "-m", "conductor_ai.cli")
    return DevOptions(
        settings=settings,
        environ=environ,
        migrate=bring_up,
        ensure_key=ensure_key,
        worker_command=(*command, "worker"),
        api_command=(*command, "api"),
        echo=echo,
        worker_ready=worker_ready,
        api_port=port,
    )


async def run_dev(settings: Settings, environ: Mapping[str, str], *, port: int | None, data_dir: Path | None) -> int:
    """Run the embedded stack until a signal. Returns the exit code."""
    from conductor_ai.embedded.dev import run_dev as run

    return await run(_dev_options(_at(settings, data_dir), environ, port, _to_stdout))


def stack(
    settings: Settings, environ: Mapping[str, str], *, data_dir: Path | None
) -> AbstractAsyncContextManager[Runtime]:
    """The embedded stack for the time of a `with` block."""
    from conductor_ai.embedded.dev import stack as run

    return run(_dev_options(_at(settings, data_dir), environ, 0, _to_stderr))


def _at(settings: Settings, data_dir: Path | None) -> Settings:
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})
