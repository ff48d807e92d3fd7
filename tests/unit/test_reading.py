"""Waiting for a session: what changes in it while it goes on by itself is not read."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from api.reading import Reader
from api.rings import Rings
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.contracts.views import SessionView
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.snapshots import Snapshots

SESSION = "sess_" + "0" * 32


class Story:
    """A session that goes from phase to phase, one at each look, and counts how often all of it was read."""

    def __init__(self, phases: list[Phase]) -> None:
        self._phases = phases
        self._version = 1
        self.built = 0

    async def mark(self, _org_id: str, _session_id: str) -> tuple[int, Phase]:
        """The next phase."""
        self._version = min(self._version + 1, len(self._phases))
        return self._version, self._phases[self._version - 1]

    async def versions(self, which: Any) -> dict[tuple[str, str], int]:
        """The present version."""
        return dict.fromkeys(which, self._version)

    async def build(self, _org_id: str, _session_id: str) -> SessionView:
        """The session as it is."""
        self.built += 1
        phase = self._phases[self._version - 1]
        status = Status.COMPLETED if phase is Phase.DONE else Status.RUNNING
        shown = {"version": self._version, "status": status, "phase": phase, "degraded": False}
        return cast("SessionView", SimpleNamespace(**shown))


class Ringing:
    """Rings all the time."""

    async def rings(self) -> Any:
        """Rings."""
        while True:
            yield SESSION, 0
            await asyncio.sleep(0)


async def test_only_what_may_matter_is_read() -> None:
    """Eight changes while it works, then the end: it is read at the start and at the end."""
    story = Story([*[Phase.THINKING, Phase.CALLING_TOOL] * 4, Phase.DONE])
    rings = Rings(Ringing())
    feeding = asyncio.create_task(rings.run())
    reader = Reader(cast("Snapshots", story), Hot(None), rings)
    busy = frozenset({Phase.THINKING, Phase.CALLING_TOOL})
    view = await reader.follow("org", SESSION, seconds=10, until=lambda now: now.status.ended, passing=busy)
    feeding.cancel()
    assert (view.phase, story.built) == (Phase.DONE, 2)


async def test_everything_is_read_for_who_waits_for_anything() -> None:
    """Without phases to pass over, the first change is read."""
    story = Story([Phase.THINKING, Phase.CALLING_TOOL, Phase.DONE])
    rings = Rings(Ringing())
    feeding = asyncio.create_task(rings.run())
    reader = Reader(cast("Snapshots", story), Hot(None), rings)
    view = await reader.follow("org", SESSION, seconds=10, until=lambda now: now.version > 1)
    feeding.cancel()
    assert (view.phase, story.built) == (Phase.CALLING_TOOL, 2)
