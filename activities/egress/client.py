"""The only way out: one checked, pinned, bounded HTTP exchange."""

import asyncio
import dataclasses
import functools
import logging
import socket
import ssl
from collections.abc import Sequence

import certifi

from activities.egress.exchange import exchange, most_bytes
from activities.egress.headers import outgoing
from activities.egress.messages import Request, Response
from activities.egress.reasons import Failed, Failure, Refusal, Refused
from activities.egress.rules import HostList, checked_exception, parse_ports
from activities.egress.target import Target, parse_target
from activities.egress.verdict import Verdict, verdict
from activities.egress.wire import Connect, Pinned, Resolve, SystemResolver, connect_tcp

logger = logging.getLogger(__name__)

DEFAULT_PORTS = "80,443,8000-9000"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
RESOLVE_SECONDS = 10.0
"""Longest look-up, if the request's own limit is not shorter."""

_RESOLVER_AWAY = frozenset({socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM})


class Egress:
    """Makes HTTP requests to public hosts only.

    The name is looked up once, every answer must be an ordinary public address, and exactly what was checked is
    dialled. Nothing is read from the environment: no proxy, no netrc, no cookies, no certificates. One
    connection for each call, closed after it; redirects are answers like any other.
    """

    def __init__(
        self,
        *,
        resolve: Resolve | None = None,
        connect: Connect = connect_tcp,
        ports: str = DEFAULT_PORTS,
        allow_hosts: Sequence[str] = (),
        deny_hosts: Sequence[str] = (),
        exception: tuple[str, int] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Without arguments: the system's resolver, TCP, the default ports, every public host, certifi's roots.

        `exception` is the one literal loopback address and port that `conductor dev` allows besides.

        Raises:
            ConfigurationError: ports, host lists or exception cannot be read.
        """
        self._own_resolver = SystemResolver() if resolve is None else None
        self._given_resolver = resolve
        self._connect = connect
        self._ports = parse_ports(ports)
        self._allow = HostList.of(allow_hosts)
        self._deny = HostList.of(deny_hosts)
        self._exception = None if exception is None else checked_exception(exception)
        self._given_ssl_context = ssl_context

    def check(self, url: str) -> Target:
        """What can be said of a URL without asking anybody: its syntax, port, host lists, and a literal address.

        Raises:
            Refused: the request would never be made.
        """
        target = parse_target(url)
        if target.host in self._deny:
            raise Refused(Refusal.HOST_DENIED)
        if self._is_exception(target):
            return target
        if self._allow and target.host not in self._allow:
            raise Refused(Refusal.HOST_NOT_ALLOWED)
        if not any(target.port in ports for ports in self._ports):
            raise Refused(Refusal.PORT)
        if target.is_address:
            _check_address(target, target.host)
        return target

    async def send(self, request: Request) -> Response:
        """Make one exchange, within `request.timeout` seconds in all.

        Raises:
            Refused: the request may not be made; nothing was dialled.
            Failed: there is no answer. A body that stops half-way is an answer, and says so in `end`.
        """
        deadline = asyncio.get_running_loop().time() + request.timeout
        target = self.check(request.url)
        if request.method not in METHODS:
            raise Refused(Refusal.METHOD)
        headers, dropped = outgoing(target, request.headers, request.body)
        if self._is_exception(target):
            logger.info("egress: asking %s, the exception of the development stack", target.authority)
        try:
            addresses = await self._addresses(target, deadline)
            response = await exchange(
                target,
                request,
                headers,
                network=Pinned(self._connect, addresses, target.port, deadline, most_bytes(request)),
                ssl_context=self._ssl_context if target.scheme == "https" else None,
                deadline=deadline,
            )
        except Failed as failed:
            # For the operator only, as with a refused address.
            logger.info("egress: no answer from %s (%s)", target.authority, failed.reason.value)
            raise
        return dataclasses.replace(response, dropped=dropped)

    async def close(self) -> None:
        """Let the resolver's threads go. Connections are never kept."""
        if self._own_resolver is not None:
            self._own_resolver.close()

    def _is_exception(self, target: Target) -> bool:
        return (target.host, target.port) == self._exception

    async def _addresses(self, target: Target, deadline: float) -> tuple[str, ...]:
        """The addresses to dial, every one of them checked.

        Raises:
            Refused: any of them is not a public address.
            Failed: there is none.
        """
        if target.is_address:
            return (target.host,)
        resolve = self._given_resolver or self._own_resolver
        assert resolve is not None
        limit = min(deadline, asyncio.get_running_loop().time() + RESOLVE_SECONDS)
        try:
            async with asyncio.timeout_at(limit):
                addresses = tuple(await resolve(target.host))
        except TimeoutError as error:
            raise Failed(Failure.TIMEOUT, sent=False) from error
        except socket.gaierror as error:
            away = error.errno in _RESOLVER_AWAY
            raise Failed(Failure.RESOLVER_AWAY if away else Failure.RESOLVE, sent=False) from error
        except OSError as error:
            raise Failed(Failure.RESOLVER_AWAY, sent=False) from error
        if not addresses:
            raise Failed(Failure.RESOLVE, sent=False)
        for address in addresses:
            _check_address(target, address)
        return addresses

    @functools.cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        """certifi's roots, and none of the variables that `ssl.create_default_context` and OpenSSL's own paths heed."""
        if self._given_ssl_context is not None:
            return self._given_ssl_context
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=certifi.where())
        return context


def _check_address(target: Target, address: str) -> None:
    found = verdict(address)
    if found is not Verdict.ALLOWED:
        # For the operator only: the caller, and so the model, learns nothing about addresses.
        logger.warning("egress: %s is refused because of %s (%s)", target.authority, address, found.value)
        raise Refused(Refusal.ADDRESS)
