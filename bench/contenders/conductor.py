"""Conductor as it is run: the API process, a worker process, Postgres and Redis; its caller starts by REST and waits by REST."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from bench.http import Connection
from bench.job import FIRST, serve
from conductor_ai.embedded import launch

LAUNCH = Path(launch.__file__)


class Conductor:
    """The two processes and a pool of connections to the API."""

    def __init__(self) -> None:
        self._children: list[asyncio.subprocess.Process] = []
        self._idle: list[Connection] = []
        self._port = int(os.environ["CONDUCTOR_PORT"])
        self._stamps = Path(os.environ["BENCH_STAMPS"])
        self._read = 0

    async def open(self) -> list[int]:
        """Start API and worker, and wait until both serve."""
        worker = await self._child("bench.worker", stdout=asyncio.subprocess.PIPE)
        api = await self._child("conductor_ai.cli", "api", stdout=asyncio.subprocess.DEVNULL)
        self._children = [worker, api]
        assert worker.stdout is not None
        await asyncio.wait_for(worker.stdout.readline(), 60)
        for _ in range(200):
            try:
                connection = await Connection.open(self._port)
                status, _ = await connection.request("GET", "/readyz")
            except OSError:
                status = 0
            if status == 200:
                return [child.pid for child in self._children]
            await asyncio.sleep(0.1)
        raise TimeoutError("The API does not get ready.")

    async def _child(self, *module: str, stdout: int) -> asyncio.subprocess.Process:
        """A process that ends when this one does, however it ends."""
        tie = ("-I", "-S", str(LAUNCH), str(os.getpid()), str(int(signal.SIGTERM)), "-1", "-1")
        return await asyncio.create_subprocess_exec(sys.executable, *tie, sys.executable, "-m", *module, stdout=stdout)

    async def session(self, name: str, steps: int) -> None:
        """Start by REST and wait for the end in the same request; ask again if that takes longer than a minute."""
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": f"Please do the job. name={name} steps={steps}"}],
            "max_steps": steps,
            "model": "demo",
        }
        connection = self._idle.pop() if self._idle else await Connection.open(self._port)
        status, answer = await connection.request("POST", "/v1/agents/run?wait=60", body)
        while status == 202 or (status == 200 and answer["status"] in ("pending", "running")):
            where = f"/v1/agents/{answer['session_id']}?wait=30&since_version=1000000000&steps=none"
            status, answer = await connection.request("GET", where)
        self._idle.append(connection)
        if status != 200 or answer["status"] != "completed":
            raise RuntimeError(json.dumps(answer)[:500])
        self._look()

    def _look(self) -> None:
        """Take over what the worker has stamped since the last time."""
        with self._stamps.open(encoding="utf-8") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind("\n") + 1
        self._read += len(text[:whole].encode())
        for line in text[:whole].splitlines():
            what, name, number, at, _ = line.split()
            if (what, number) == ("ask", "1"):
                FIRST.setdefault(name, float(at))

    async def close(self) -> None:
        """Stop both, in order."""
        for child in self._children:
            child.terminate()
        await asyncio.gather(*(child.wait() for child in self._children))


if __name__ == "__main__":
    asyncio.run(serve(Conductor()))
