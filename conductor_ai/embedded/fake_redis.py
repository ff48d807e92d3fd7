"""Redis for machines that have none: fakeredis behind a password, run as a child by `redis.py`.

Run with `python -m conductor_ai.embedded.fake_redis FD`: FD is a listening socket. The password comes on standard input.
fakeredis knows AUTH but does not insist on it, so the first command of every connection is looked at before it may speak.
"""

import hmac
import socket
import sys
import time
from typing import Any, cast

from fakeredis import TcpFakeServer
from fakeredis._clients._tcp_server import TCPFakeRequestHandler

FIRST_COMMAND_SECONDS = 5.0
PEEK_BYTES = 4096


def first_command(data: bytes) -> list[bytes] | None:
    """The words of the command that `data` begins with (RESP array of bulk strings), or None while it is not whole.

    Raises:
        ValueError: it is not such a command.
    """
    header, found, rest = data.partition(b"\r\n")
    if not found:
        return None
    if not header.startswith(b"*"):
        raise ValueError("not an array")
    words = []
    for _ in range(int(header[1:])):
        length, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        if not length.startswith(b"$"):
            raise ValueError("not a bulk string")
        size = int(length[1:])
        if len(rest) < size + 2:
            return None
        words.append(rest[:size])
        rest = rest[size + 2 :]
    return words


def opens(words: list[bytes], password: bytes) -> bool:
    """Whether that first command shows the password: AUTH [user] password, or HELLO … AUTH user password."""
    name = words[0].upper() if words else b""
    shown = b""
    if name == b"AUTH" and len(words) >= 2:
        shown = words[-1]
    elif name == b"HELLO":
        upper = [word.upper() for word in words]
        if b"AUTH" in upper and upper.index(b"AUTH") + 2 < len(words):
            shown = words[upper.index(b"AUTH") + 2]
    return hmac.compare_digest(shown, password)


class GuardedHandler(TCPFakeRequestHandler):
    """Serves a connection only when it begins with the password."""

    server: "GuardedServer"

    def setup(self) -> None:
        """Looks at the first command without taking it from the socket: fakeredis then answers it as usual."""
        if not self._opened():
            self.request.sendall(b"-NOAUTH Authentication required.\r\n")
            raise ConnectionError("no password")
        super().setup()

    def _opened(self) -> bool:
        connection = cast("socket.socket", self.request)
        until = time.monotonic() + FIRST_COMMAND_SECONDS
        connection.settimeout(FIRST_COMMAND_SECONDS)
        try:
            while time.monotonic() < until:
                data = connection.recv(PEEK_BYTES, socket.MSG_PEEK)
                words = first_command(data)
                if words is not None:
                    return opens(words, self.server.password)
                if not data or len(data) == PEEK_BYTES:
                    return False
                time.sleep(0.005)
        except (ValueError, OSError):
            return False
        finally:
            connection.settimeout(None)
        return False


class GuardedServer(TcpFakeServer):
    """fakeredis' server on a socket that was handed over."""

    def __init__(self, listening: socket.socket, password: bytes) -> None:
        super().__init__(listening.getsockname(), bind_and_activate=False)
        self.daemon_threads = True
        self.password = password
        self.fake_server.config[b"requirepass"] = password
        self.socket.close()
        self.socket = listening
        self.RequestHandlerClass = GuardedHandler

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class names it
        """A refused or broken connection is one line in the log, not a traceback."""
        sys.stderr.write(f"connection of {client_address} ended: {sys.exc_info()[1]}\n")


def main(descriptor: int) -> None:
    """Serves until it is killed."""
    password = sys.stdin.buffer.read().strip()
    GuardedServer(socket.socket(fileno=descriptor), password).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
