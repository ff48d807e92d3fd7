"""`conductor dev` as a child process, as a user starts it, and a small REST client for it."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from conductor_ai.embedded.runtime import Runtime, read_runtime
from tests.fixtures_servers import wait_until

KEPT = ("PATH", "HOME", "LANG", "DOCKER_HOST", "SSL_CERT_FILE")
"""What the child gets of this process' environment: a user's settings must not leak into tests."""


@dataclass
class Dev:
    """A running `conductor dev`."""

    process: asyncio.subprocess.Process
    data_dir: Path
    http: httpx.AsyncClient

    @property
    def runtime(self) -> Runtime:
        """What it says of itself now."""
        found = read_runtime(self.data_dir)
        assert found is not None
        return found

    async def run(self, *lines: str, **fields: Any) -> str:
        """Start a session whose user message is these lines. Returns its id."""
        body = {"model": "demo", "messages": [{"role": "user", "content": "\n".join(lines)}], **fields}
        response = await self.http.post("/v1/agents/run", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["session_id"])

    async def get(self, session_id: str) -> dict[str, Any]:
        """The session now."""
        response = await self.http.get(f"/v1/agents/{session_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def until(
        self, session_id: str, holds: Callable[[dict[str, Any]], bool], what: str, seconds: float = 30
    ) -> dict[str, Any]:
        """Poll until the session is so. An API that was killed and starts again is asked once more."""

        async def look() -> bool:
            try:
                return holds(await self.get(session_id))
            except httpx.TransportError:
                return False

        await wait_until(look, what, seconds)
        return await self.get(session_id)

    async def ended(self, session_id: str, seconds: float = 30) -> dict[str, Any]:
        """Poll until the session has ended."""
        return await self.until(
            session_id, lambda s: s["status"] not in ("pending", "running"), f"the end of {session_id}", seconds
        )

    async def pending(self, session_id: str, seconds: float = 30) -> dict[str, Any]:
        """Poll until a call waits for a decision. Returns the approval."""
        found = await self.until(session_id, lambda s: bool(s["pending_approvals"]), "a pending approval", seconds)
        return dict(found["pending_approvals"][0])

    async def decide(self, approval: dict[str, Any], decision: str, **more: Any) -> httpx.Response:
        """Decide by REST."""
        body = {"decision": decision, "arguments_sha256": approval["arguments_sha256"], **more}
        return await self.http.post(f"/v1/approvals/{approval['id']}/decision", json=body)

    def kill(self, name: str) -> int:
        """SIGKILL a part. Returns its pid."""
        pid = self.runtime.pids[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    async def replaced(self, name: str, pid: int, seconds: float = 15) -> None:
        """Wait until a killed part runs again under another pid."""

        async def again() -> bool:
            found = read_runtime(self.data_dir)
            return found is not None and found.pids.get(name, pid) != pid

        await wait_until(again, f"{name} to be started again", seconds)

    async def conductor(self, *arguments: str) -> tuple[int, str]:
        """Run a command against this stack. Returns exit code and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "conductor_ai.cli",
            *arguments,
            env=environment() | {"CONDUCTOR_DATA_DIR": str(self.data_dir)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, output.decode()


def environment() -> dict[str, str]:
    """A clean environment for children."""
    given = os.environ  # noqa: TID251 - the few variables that a program cannot run without
    return {name: given[name] for name in KEPT if name in given}


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that Postgres' own user can enter: pytest's are closed to everybody else."""
    folder = Path(tempfile.mkdtemp(prefix="conductor-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def dev_in(data_dir: Path, **settings: str) -> AsyncIterator[Dev]:
    """`conductor dev` on a free port, until the block ends."""
    log = data_dir.parent / f"{data_dir.name}.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "conductor_ai.cli",
            "dev",
            "--port",
            "0",
            "--data-dir",
            str(data_dir),
            env=environment() | settings,
            cwd=data_dir.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:

        async def ready() -> bool:
            assert process.returncode is None, log.read_text()
            return read_runtime(data_dir) is not None

        await wait_until(ready, "conductor dev to be ready", 90)
        runtime = read_runtime(data_dir)
        assert runtime is not None
        key = Path(runtime.api_key_file).read_text(encoding="utf-8").strip()
        async with httpx.AsyncClient(
            base_url=runtime.api_url, headers={"Authorization": f"Bearer {key}"}, timeout=70, trust_env=False
        ) as http:
            yield Dev(process, data_dir, http)
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)


@pytest.fixture(scope="session")
async def dev() -> AsyncIterator[Dev]:
    """One stack for all tests of this process that do not break it for good."""
    with reachable_folder() as folder:
        async with dev_in(folder / "data", CONDUCTOR_RECONCILE_SECONDS="1") as running:
            yield running
