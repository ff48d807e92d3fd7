"""What the stream of a session tells a command that follows it: that something has changed, and what the model is writing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from conductor_ai.client import ApiError, AsyncConductor, ClientError
from conductor_ai.contracts.events import DeltaView

PATIENCE_SECONDS = 5.0
"""How long a stream may be away before it counts as lost. The session is polled meanwhile, with more patience."""


@dataclass(frozen=True)
class Words:
    """What the model has written so far of an answer that is under way; empty: none is."""

    text: str


class Listener:
    """Listens to the stream of a session for as long as there is one. Nothing depends on it: who cannot listen asks."""

    def __init__(self, client: AsyncConductor, say: Callable[[Words], None]) -> None:
        self._client = client.with_options(patience=PATIENCE_SECONDS)
        self._say = say
        self._task: asyncio.Task[None] | None = None
        self._refused = False
        self._hears = False
        """Whether the stream has said something: one that a proxy holds back is opened and silent."""
        self._heard = 0
        """The version of the session as of the last event."""
        self._news = asyncio.Event()
        self._writing = (0, 0)
        """Call and attempt that the words are of."""
        self._text = ""

    def begin(self, session_id: str, after: int) -> None:
        """Listen, unless that is being done or was refused."""
        if not self._refused and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._listen(session_id, after))

    async def newer(self, version: int) -> bool:
        """Wait until the session is newer than this version. False: this cannot be heard."""
        while self._hears and self._heard <= version:
            self._news.clear()
            await self._news.wait()
        return self._heard > version

    async def close(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self, session_id: str, after: int) -> None:
        try:
            # What the session has told before is not waited for: whoever begins to listen has just looked at it.
            async with self._client.sessions.stream(session_id, after=after) as stream:
                async for told in stream:
                    self._hears = True
                    if isinstance(told, DeltaView):
                        self._write(told)
                        continue
                    self._heard = told.seq
                    self._news.set()
                    if told.type == "model.answered":
                        self._quiet(told.data.get("call_no"))
        except ApiError:
            self._refused = True
        except ClientError:
            pass  # It may be there again later.
        finally:
            self._hears = False
            self._news.set()
            self._quiet(None)

    def _write(self, delta: DeltaView) -> None:
        place = (delta.call_no, delta.attempt)
        if place < self._writing:
            return  # of an attempt that another one has replaced, or of an answer that is there
        if place > self._writing:
            self._writing, self._text = place, ""
        self._text = self._text[: delta.offset] + delta.text
        self._say(Words(self._text))

    def _quiet(self, answered: object) -> None:
        if isinstance(answered, int):
            self._writing = max(self._writing, (answered + 1, 0))
        self._text = ""
        self._say(Words(""))
