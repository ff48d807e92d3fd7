"""The demo page: something for `web_fetch` to read on a machine without a network.

Run as a child with `python -m conductor_ai.embedded.page FD`: FD is a listening socket.
"""

import asyncio
import signal
import socket
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from conductor_ai.embedded.children import Child, Guard, log_tail, python_environment, spawn
from conductor_ai.embedded.ports import LOOPBACK, holds_listener, http_get, listener
from conductor_ai.errors import ConfigurationError

PAGES = Path(__file__).with_name("pages")
ROUTES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/terms.html": ("terms.html", "text/html; charset=utf-8"),
    "/rates.json": ("rates.json", "application/json"),
}
START_SECONDS = 10.0


class Handler(BaseHTTPRequestHandler):
    """Serves the few files of `ROUTES`, and nothing else."""

    server_version = "conductor-demo-page"
    sys_version = ""
    timeout = 10

    def do_GET(self) -> None:
        """Answers with a page."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answers with a page's headers."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        route = ROUTES.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        name, kind = route
        content = (PAGES / name).read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if body:
            self.wfile.write(content)


def page_of_this_stack(address: str, parent: int) -> str:
    """`address` itself (host and port), if the process `parent` serves it: in a stack that is the supervisor, which
    keeps the page's socket open.

    Raises:
        ConfigurationError: somebody else named the address. An address of this machine is not to be had by a setting.
    """
    host, _, port = address.rpartition(":")
    if host != LOOPBACK or not (port.isascii() and port.isdigit()) or not holds_listener(parent, int(port)):
        raise ConfigurationError(
            "CONDUCTOR_DEV_PAGE is set, but not by a running `conductor dev`: it would let web_fetch ask an address of "
            "this machine. Unset it."
        )
    return address


class EmbeddedPage:
    """The page as a child on a loopback port."""

    name = "page"

    def __init__(self, *, log: Path, guard: Guard | None = None) -> None:
        self.port = 0
        self.child: Child | None = None
        self._log = log
        self._guard = guard
        self._socket: socket.socket | None = None

    @property
    def address(self) -> str:
        """Host and port, for CONDUCTOR_DEV_PAGE."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Where a browser, or `web_fetch`, finds it."""
        return f"http://{self.address}/"

    async def start(self) -> None:
        """Starts the child and returns once it answers; the same object keeps its port.

        Raises:
            ConfigurationError: it does not start.
        """
        if self._socket is None:
            self._socket = listener()
            self.port = self._socket.getsockname()[1]
        descriptor = self._socket.fileno()
        self.child = await spawn(
            (sys.executable, "-m", "conductor_ai.embedded.page", str(descriptor)), name=self.name,
            environ=python_environment(), log=self._log, guard=self._guard, pass_fds=(descriptor,), cwd=Path("/"),
        )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while self.child.alive and time.monotonic() < until:
            # The socket is ours and connections queue up on it, so an answer can come from the child alone.
            if (await http_get(LOOPBACK, self.port, "/", timeout=START_SECONDS))[0] == HTTPStatus.OK:
                return
            await asyncio.sleep(0.01)
        raise ConfigurationError(f"The demo page does not start. {self._log} says:\n{log_tail(self._log)}")

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Ends the child."""
        if self.child is not None:
            await self.child.stop(signal.SIGTERM, grace=1, hurry=hurry)
            if self._guard is not None:
                self._guard.forget(self.child.pid)
            self.child = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def main(descriptor: int) -> None:
    """Serves until it is killed."""
    listening = socket.socket(fileno=descriptor)
    server = ThreadingHTTPServer(listening.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
