"""How a process stops: streams that would go on for hours end with it."""

import socket
from collections.abc import Callable

import uvicorn


class Leaving(uvicorn.Server):
    """uvicorn's server, which waits for all answers to end when it stops, and here first ends those that would not."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking requests, and wait for those that are under way."""
        self._stopping()
        await super().shutdown(sockets)
