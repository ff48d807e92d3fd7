"""What a provider is: it turns one complete request into one complete reply, and streams what it can on the way."""

from collections.abc import Callable
from typing import Protocol

from conductor_ai.contracts.models import ModelReply, ModelRequest, Usage


class Listener(Protocol):
    """Takes what happens while a reply is under way. Never needed for correctness; must not raise or block."""

    def delta(self, text: str, /) -> None:
        """A piece of text, in order."""
        ...

    def usage(self, usage: Usage, /) -> None:
        """The usage known so far (the latest call replaces earlier ones): what is billed if the attempt breaks off."""
        ...


class Provider(Protocol):
    """One provider of models."""

    @property
    def name(self) -> str:
        """A stable word: `anthropic`, `openai_compatible`, `demo`."""
        ...

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """Run one model call, once: retries are Temporal's, never the provider's.

        Raises:
            ModelFailure: sorted by activities/retries.py: retry (after how long) or fail (with which code).
            asyncio.CancelledError: the request has been aborted.
        """
        ...

    async def close(self) -> None:
        """Close connections. Called once, when the worker stops."""
        ...


Factory = Callable[[], Provider]
"""Makes a provider when it is first needed: importing an SDK may take seconds."""
