"""A provider that answers from a list, and a listener that keeps what it hears."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from conductor_ai.contracts.models import ModelReply, ModelRequest, Stop, Usage

ENDED = ModelReply(stop=Stop.END, text="The script of this provider has ended.")


class Listener(Protocol):
    """What a provider tells on the way; the same shape as the worker's own."""

    def delta(self, text: str, /) -> None:
        """A piece of text."""
        ...

    def usage(self, usage: Usage, /) -> None:
        """The usage so far."""
        ...


class Recorder:
    """A listener that keeps everything."""

    def __init__(self) -> None:
        self.deltas: list[str] = []
        self.usages: list[Usage] = []
        self.heard = asyncio.Event()
        """Set by the first delta."""

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self.deltas)

    def delta(self, text: str, /) -> None:
        """Keep it."""
        self.deltas.append(text)
        self.heard.set()

    def usage(self, usage: Usage, /) -> None:
        """Keep it."""
        self.usages.append(usage)


class ScriptedProvider:
    """Gives out replies in order and raises the exceptions among them; `requests` has what it was asked.

    After the last step it answers `ENDED` for ever.
    """

    def __init__(self, steps: Iterable[ModelReply | Exception] = (), name: str = "scripted") -> None:
        self._steps = list(steps)
        self._name = name
        self.requests: list[ModelRequest] = []
        self.closed = False

    @property
    def name(self) -> str:
        """What it was called."""
        return self._name

    def add(self, *steps: ModelReply | Exception) -> None:
        """Append steps."""
        self._steps.extend(steps)

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """The next step.

        Raises:
            Exception: whatever the script holds.
        """
        self.requests.append(request)
        step = self._steps.pop(0) if self._steps else ENDED
        await asyncio.sleep(0)
        if isinstance(step, Exception):
            raise step
        listener.usage(step.usage)
        if step.text:
            listener.delta(step.text)
        return step

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
