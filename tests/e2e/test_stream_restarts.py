"""A client that comes and goes, and API processes that die: every event once and in order."""

import asyncio
import json
import os
import signal
from dataclasses import dataclass, field

import httpx
import pytest

from tests.fixtures_dev import Dev, dev_in, reachable_folder
from tests.fixtures_servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

STEPS = 95


@dataclass
class Coming:
    """Reads a stream for 200 ms at a time, and goes on after the last event that it has."""

    dev: Dev
    session_id: str
    seqs: list[int] = field(default_factory=list)
    data: list[dict[str, object]] = field(default_factory=list)
    streams: int = 0
    failures: int = 0

    async def until_the_end(self) -> None:
        """Come back until there is nothing more (204)."""
        while True:
            try:
                async with asyncio.timeout(0.2):
                    if await self._once():
                        return
            except TimeoutError:
                continue  # What had come of an unfinished message is forgotten, as a browser does.
            except httpx.TransportError:
                self.failures += 1
                await asyncio.sleep(0.05)

    async def _once(self) -> bool:
        headers = {"Last-Event-ID": str(self.seqs[-1])} if self.seqs else {}
        async with self.dev.http.stream("GET", f"/v1/agents/{self.session_id}/stream", headers=headers) as answer:
            if answer.status_code == 204:
                return True
            assert answer.status_code in (200, 503), answer.status_code
            self.streams += answer.status_code == 200
            number, body = None, None
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    body = json.loads(line[6:])
                elif not line:
                    if number is not None:
                        assert body is not None
                        self.seqs.append(number)
                        self.data.append(body)
                    number, body = None, None
        return False


async def answers(dev: Dev) -> bool:
    """Whether the API can be reached."""
    try:
        return (await dev.http.get("/livez")).status_code == 200
    except httpx.TransportError:
        return False


async def test_every_event_once_while_the_api_is_restarted() -> None:
    """Reconnects every 200 ms to a session of 95 steps; the API is killed once and stopped once meanwhile."""
    with reachable_folder() as folder:
        async with dev_in(folder / "data") as dev:
            program = '{{"language": "python", "code": "print({n})"}}'
            calls = [f"demo: call code_run {program.format(n=n)}" for n in range(STEPS - 1)]
            session_id = await dev.run(*calls, "demo: say The end.", max_steps=100)
            coming = Coming(dev, session_id)
            reading = asyncio.create_task(coming.until_the_end())
            for number, sign in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
                async with asyncio.timeout(120):
                    while len(coming.seqs) < number * 60:
                        assert not reading.done()
                        await asyncio.sleep(0.01)
                pid = dev.runtime.pids["api"]
                os.kill(pid, sign)
                await dev.replaced("api", pid, 30)
            await asyncio.wait_for(reading, 240)
            await wait_until(lambda: answers(dev), "the API to listen again", 30)
            session = await dev.ended(session_id, seconds=5)
            stored: list[dict[str, object]] = []
            more = True
            while more:
                after = stored[-1]["seq"] if stored else 0
                page = (await dev.http.get(f"/v1/agents/{session_id}/events?after={after}&limit=1000")).json()
                stored, more = stored + page["data"], page["has_more"]
    assert session["status"] == "completed", session["error"]
    assert coming.seqs == list(range(1, session["version"] + 1))
    assert coming.data == stored
    assert coming.streams > 10
    assert coming.failures > 0
