"""The two clients. They differ in their transport alone."""

import ipaddress
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from conductor_ai.client.approvals import Approvals, Grants
from conductor_ai.client.catalogues import HealthChecks, Models, Tools
from conductor_ai.client.endpoint import Resource, W
from conductor_ai.client.keys import ApiKeys
from conductor_ai.client.retrying import Options
from conductor_ai.client.sessions import Sessions
from conductor_ai.client.transports import AsyncTransport, SyncTransport

DEFAULT_TIMEOUT = 10.0
"""The server promises an answer within 5 s, long polls apart."""
DEFAULT_PATIENCE = 20.0


class _Parts(Resource[W]):
    """The parts of the API, on one transport."""

    def __init__(self, transport: W) -> None:
        super().__init__(transport)
        self.sessions = Sessions[W](transport)
        self.approvals = Approvals[W](transport)
        self.grants = Grants[W](transport)
        self.tools = Tools[W](transport)
        self.models = Models[W](transport)
        self.health = HealthChecks[W](transport)
        self.api_keys = ApiKeys[W](transport)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transport.options.url!r})"


class Conductor(_Parts[SyncTransport]):
    """A client of one server; threads may share it. Close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
        http: httpx.Client | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: of the API, such as `http://127.0.0.1:8080`.
            api_key: `ck_…`; None for a server without keys.
            timeout: seconds for one attempt; a long poll takes longer by what it asks for.
            patience: seconds over which a request is repeated while the server is away or says: later. 0 repeats nothing. A POST is
                repeated under one Idempotency-Key, so that it happens once.
            http: connections of your own, for proxies or certificates. They are closed with the client.

        Raises:
            ValueError: the address or the key cannot be one.
        """
        options = _options(url, api_key, timeout, patience)
        super().__init__(SyncTransport(http or httpx.Client(trust_env=not _is_here(options.url)), options))

    def with_options(self, *, timeout: float | None = None, patience: float | None = None) -> "Conductor":
        """The same client, on the same connections, with another timeout or patience."""
        options = _changed(self.transport.options, timeout, patience)
        other = object.__new__(Conductor)
        _Parts.__init__(other, SyncTransport(self.transport.http, options))
        return other

    def close(self) -> None:
        """Close the connections."""
        self.transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncConductor(_Parts[AsyncTransport]):
    """The same for asyncio. Close it, or use it in an `async with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Connects to nothing yet. Arguments and errors are those of `Conductor`."""
        options = _options(url, api_key, timeout, patience)
        super().__init__(AsyncTransport(http or httpx.AsyncClient(trust_env=not _is_here(options.url)), options))

    def with_options(self, *, timeout: float | None = None, patience: float | None = None) -> "AsyncConductor":
        """The same client, on the same connections, with another timeout or patience."""
        options = _changed(self.transport.options, timeout, patience)
        other = object.__new__(AsyncConductor)
        _Parts.__init__(other, AsyncTransport(self.transport.http, options))
        return other

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _options(url: str, api_key: str | None, timeout: float, patience: float) -> Options:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("The address of the server is not one like http://127.0.0.1:8080.")
    if parts.username is not None or parts.password is not None:
        raise ValueError("The address of the server holds a user name or password. Pass the key as `api_key`.")
    if api_key is not None and not (api_key and api_key.isascii() and api_key.isprintable()):
        raise ValueError("The API key has characters that no key has, or none at all. Copy it once more.")
    headers = {"Accept": "application/json"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return Options(url.rstrip("/"), headers, timeout, patience)


def _changed(options: Options, timeout: float | None, patience: float | None) -> Options:
    return replace(
        options,
        timeout=options.timeout if timeout is None else timeout,
        patience=options.patience if patience is None else patience,
    )


def _is_here(url: str) -> bool:
    """Whether the server is on this machine: then a proxy of the environment has no business between."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
