"""The stack for as long as a person wants it, or for the time of one run."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from conductor_ai.embedded.options import DevOptions
from conductor_ai.embedded.runtime import Runtime
from conductor_ai.embedded.supervisor import Supervisor
from conductor_ai.errors import ConductorError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def without_password(url: str) -> str:
    """A URL as it may be shown: `postgresql://user:***@host/…`. What drivers read from the query may be a password too."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{user}{':***' if colon else ''}{at}{host}"
    return urlunsplit((parts.scheme, shown, parts.path, "***" if parts.query else "", ""))


def summary(runtime: Runtime) -> list[str]:
    """What a person wants to know of a running stack, one line each; no secrets."""
    pids = ", ".join(f"{name} {pid}" for name, pid in runtime.pids.items())
    return [
        f"API          {runtime.api_url}",
        f"API key      in {runtime.api_key_file}",
        f"Temporal     {runtime.temporal_address}",
        f"Temporal UI  {runtime.temporal_ui_url or 'not known (CONDUCTOR_TEMPORAL_UI_URL)'}",
        f"Postgres     {without_password(runtime.database_url)}",
        f"Redis        {without_password(runtime.redis_url)}",
        f"SQL target   {without_password(runtime.sql_url)}",
        f"Demo page    {runtime.page_url}",
        f"Logs         {runtime.log_dir}",
        f"Processes    {pids}",
    ]


async def run_dev(options: DevOptions) -> int:
    """Runs the stack until SIGINT, SIGTERM or SIGHUP; a second one ends it without patience.

    Returns:
        The exit code: 0 after a clean stop, 1 when the stack could not start (the reason has been shown).
    """
    supervisor = Supervisor(options)
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            supervisor.hurry.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        return await _run_until(supervisor, stop)
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _run_until(supervisor: Supervisor, stop: asyncio.Event) -> int:
    starting = asyncio.create_task(supervisor.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            for line in summary(starting.result()):
                supervisor.say(line)
            await stopping
        supervisor.say("Stopping.")
    except ConductorError as error:
        supervisor.say(error.message)
        return 1
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await supervisor.stop()
    return 0


@asynccontextmanager
async def stack(options: DevOptions) -> AsyncIterator[Runtime]:
    """The same stack for the time of a `with` block. Signals stay the caller's.

    Raises:
        ConfigurationError: it cannot start.
    """
    supervisor = Supervisor(options)
    try:
        yield await supervisor.start()
    finally:
        await supervisor.stop()
