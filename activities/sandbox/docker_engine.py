"""Docker's SDK, which blocks, behind an awaitable: own threads, a limit for every call, errors as ours."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import docker
import docker.errors
import requests

from conductor_ai.errors import ToolUnavailable

T = TypeVar("T")

CALL_SECONDS = 10
"""Limit for one call to the engine. A healthy one answers in a fraction of a second."""

THREADS = 32
"""Own threads: the loop's few would be used up by calls that hang, and then not even a cancel would get through."""


DEFAULT_URL = "unix:///var/run/docker.sock"
"""Where the SDK looks if nothing is said."""

ANY_VERSION = "1.41"
"""Of the interface: not sent, because the question for the version carries none."""


class Engine:
    """One Docker engine."""

    def __init__(self, base_url: str | None, call_seconds: float = CALL_SECONDS) -> None:
        self._base_url = base_url
        self._call_seconds = call_seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None

    async def call(self, function: Callable[[docker.APIClient], T]) -> T:
        """Call the SDK in a thread.

        Raises:
            docker.errors.APIError: the engine refused; NotFound and ImageNotFound are kinds of it.
            ToolUnavailable: the engine does not answer, or not in time.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._guarded, function)

    async def attach(self, container: str) -> socket.socket:
        """A connection to the container's three streams, for the caller to close."""
        return await self.call(lambda client: _attach(client, container))

    async def close(self) -> None:
        """End the threads; a call that hangs is not waited for longer than its limit."""
        if self._client is not None:
            self._client.close()
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    def _guarded(self, function: Callable[[docker.APIClient], T]) -> T:
        try:
            return function(self._connected())
        except docker.errors.APIError:
            raise
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise ToolUnavailable(
                "The Docker engine does not answer. Check that it runs, that DOCKER_HOST names it, and that the worker "
                "may use its socket."
            ) from error

    def _connected(self) -> docker.APIClient:
        with self._lock:
            if self._client is None:
                self._knock()
                version = self._version()
                self._client = docker.APIClient(self._base_url, version=version, timeout=self._call_seconds)
                self._client.trust_env = False
            return self._client

    def _knock(self) -> None:
        """Fail here if nobody listens: the SDK leaves a socket behind when it cannot connect."""
        if self._base_url is None or self._base_url.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as knock:
                knock.settimeout(self._call_seconds)
                knock.connect((self._base_url or DEFAULT_URL).removeprefix("unix://"))

    def _version(self) -> str:
        """The engine's own version of the interface; the SDK's `auto` leaves sockets behind if it fails to ask."""
        asker = docker.APIClient(self._base_url, version=ANY_VERSION, timeout=self._call_seconds)
        asker.trust_env = False
        try:
            return str(asker.version(api_version=False)["ApiVersion"])
        finally:
            asker.close()


def _attach(client: docker.APIClient, container: str) -> socket.socket:
    stream = client.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    response = stream._response  # noqa: SLF001 - the SDK gives out no handle that an event loop can use
    try:
        # A copy of the descriptor: closing it is ours alone, and what the SDK holds can go at once.
        return socket.socket(fileno=os.dup(stream.fileno()))
    finally:
        response.close()
