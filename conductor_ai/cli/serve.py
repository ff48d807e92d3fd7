"""The commands that run a part of Conductor. Each stops cleanly on SIGTERM and SIGINT: `conductor_ai.wiring` sees to it."""

import asyncio
from pathlib import Path

import uvloop
from rich.text import Text

from conductor_ai import wiring
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.health import show_checks
from conductor_ai.cli.screen import console
from conductor_ai.contracts.tools import Queue
from conductor_ai.doctor import Check, effective
from conductor_ai.errors import ConfigurationError
from conductor_ai.settings import Settings, environment, load
from conductor_ai.stores.access import Role


def worker(settings: Settings) -> ExitCode:
    """Serves the task queues until it is told to stop."""
    runs_code = Queue.SANDBOX.value in settings.worker_queues and settings.sandbox != "off"
    # uvloop cannot start a program as another user, as sandboxes that are plain processes are started.
    (asyncio.run if runs_code else uvloop.run)(wiring.run_worker(settings))
    return ExitCode.COMPLETED


def api(settings: Settings) -> ExitCode:
    """Serves the REST API until it is told to stop."""
    uvloop.run(wiring.run_api(settings))
    return ExitCode.COMPLETED


def migrate(settings: Settings) -> ExitCode:
    """Brings the database to this version's schema."""
    applied = asyncio.run(wiring.run_migrations(settings))
    out = console()
    for name in applied:
        out.print(Text(f"Applied {name}."))
    if not applied:
        out.print("The database is up to date.")
    return ExitCode.COMPLETED


def dev(settings: Settings, *, port: int | None, data_dir: Path) -> int:
    """Runs the embedded stack until it is told to stop. Returns its exit code."""
    return asyncio.run(wiring.run_dev(settings, environment(), port=port, data_dir=data_dir))


def make_key(settings: Settings, *, org: str, name: str, role: Role) -> ExitCode:
    """Makes an API key and prints it: the only time that it is shown. Without a database it is the running dev stack's."""
    key = asyncio.run(wiring.make_key(effective(settings), org=org, name=name, role=role))
    console(stderr=True).print("This key is shown once. Keep it where the caller finds it as CONDUCTOR_API_KEY:")
    print(key)
    return ExitCode.COMPLETED


def doctor(data_dir: Path | None) -> ExitCode:
    """Checks the settings first: the other checks need them."""
    try:
        settings = load()
    except ConfigurationError as error:
        return show_checks([Check("settings", False, error.message)])
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir})
    return show_checks(asyncio.run(wiring.diagnose(settings)))
