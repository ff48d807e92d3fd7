"""The API as a process of its own, as it runs for users, and a raw socket to it: nothing between a test and the bytes."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from conductor_ai.embedded.ports import free_ports
from tests.fixtures_dev import environment
from tests.fixtures_servers import wait_until


@dataclass(frozen=True)
class Said:
    """What came back for some bytes."""

    status: int
    head: str
    body: bytes
    seconds: float
    """From the first byte sent to the first byte of the answer."""
    busy: float
    """Seconds of these that the process worked: what is left when the machine has nothing else to do."""


@dataclass
class ApiProcess:
    """A running `conductor api`."""

    process: asyncio.subprocess.Process
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def memory(self, what: str = "VmRSS") -> int:
        """Bytes of memory; `VmHWM` for the most that it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) * 1024

    def _worked(self) -> float:
        """Seconds that the thread of the event loop has run."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text(encoding="utf-8").split()[0]) / 1e9

    async def say(self, *parts: bytes, seconds: float = 10) -> Said:
        """Send bytes on a connection of their own. Returns the first answer; the rest of the bytes is not waited for."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        began, worked = time.monotonic(), self._worked()

        async def send() -> None:
            try:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
            except ConnectionError:
                pass  # it has heard enough

        sending = asyncio.create_task(send())
        try:
            async with asyncio.timeout(seconds):
                first = await reader.readline()
                took, busy = time.monotonic() - began, self._worked() - worked
                rest = b""
                try:
                    while b"\r\n\r\n" not in rest and (more := await reader.read(65_536)):
                        rest += more
                    head, _, body = rest.partition(b"\r\n\r\n")
                    length = next(
                        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")),
                        None,
                    )
                    while (length is None or len(body) < length) and (more := await reader.read(65_536)):
                        body += more
                except ConnectionError:
                    head, _, body = rest.partition(b"\r\n\r\n")
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.transport.abort()
        status = int(first.split()[1]) if first.startswith(b"HTTP/1.1 ") else 0
        return Said(status, head.decode("latin-1"), body, took, busy)


@asynccontextmanager
async def api_process(folder: Path, **settings: str) -> AsyncIterator[ApiProcess]:
    """`conductor api` on a free port of loopback, until the block ends."""
    [port] = free_ports(1)
    log = folder / f"api-{port}.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "conductor_ai.cli",
            "api",
            env=environment() | {"CONDUCTOR_PORT": str(port)} | settings,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    running = ApiProcess(process, port, log)
    try:
        async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:

            async def ready() -> bool:
                assert process.returncode is None, log.read_text()
                try:
                    return (await http.get("/livez")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_until(ready, "the API to answer", 60)
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)
